"""A real HTTP server that serves files from memory, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice


class Handler(BaseHTTPRequestHandler):
    """One request. A misbehaviour is a function of this handler; without one, `whole` answers."""

    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.server.note(self)
        script = self.server.scripts[self.path]
        (script.pop(0) if script else Handler.whole)(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    @property
    def content(self) -> bytes | None:
        return self.server.files.get(self.path)

    @property
    def etag(self) -> str:
        return self.server.etags.get(self.path) or f'"{hashlib.md5(self.content or b"").hexdigest()}"'

    def asked(self) -> tuple[int, int] | None:
        """Bounds of the range that the client requests, if it may have it."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None or self.headers.get("If-Range", self.etag) != self.etag:
            return None
        size = len(self.content or b"")
        return int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, data: bytes) -> None:
        if self.command == "GET":
            self.server.sent[self.path] += len(data)
            self.wfile.write(data)

    def whole(self, *, ranges: bool = True, etag: bool = True, stop: int | None = None, length: int | None = None) -> None:
        """Answer as a good server does; `stop` sends fewer bytes than promised, `length` promises more."""
        if self.content is None:
            return self.begin(404, 0)
        size = len(self.content)
        version = {"ETag": self.etag} if etag else {}
        asked = self.asked() if ranges else None
        if asked is None:
            self.begin(200, length or size, **version)
            start, end = 0, size
        elif asked[0] >= size:
            return self.begin(416, 0, Content_Range=f"bytes */{size}", **version)
        else:
            start, end = asked
            self.begin(206, length or end - start, Content_Range=f"bytes {start}-{end - 1}/{size}", **version)
        self.send(self.content[start:end][:stop])
        if stop is not None or length:
            self.close_connection = True
        return None


Misbehaviour = Callable[[Handler], None]


def status(code: int, **headers: str) -> Misbehaviour:
    """Answer with an error, and with headers such as Retry_After."""
    return lambda handler: handler.begin(code, 0, **headers)


def reset_after(count: int) -> Misbehaviour:
    """Send this many bytes of the body, then reset the connection."""

    def reset(handler: Handler) -> None:
        handler.whole(stop=count)
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return reset


def ends_after(count: int) -> Misbehaviour:
    """Promise the complete body, send this many bytes, and close."""
    return lambda handler: handler.whole(stop=count)


def promises_more(extra: int) -> Misbehaviour:
    """Send the complete body under a Content-Length that is too large."""
    return lambda handler: handler.whole(length=len(handler.content or b"") + extra)


def lies_about_size(extra: int) -> Misbehaviour:
    """Say, in every answer, that the file is larger than it is."""

    def lie(handler: Handler) -> None:
        content = handler.content or b""
        found = re.fullmatch(r"bytes=(\d+)-\d*", handler.headers.get("Range", "bytes=0-"))
        start, size = int(found[1]) if found else 0, len(content) + extra
        handler.begin(206 if start else 200, size - start, Content_Range=f"bytes {start}-{size - 1}/{size}", ETag=handler.etag)
        handler.send(content[start:])
        handler.close_connection = True

    return lie


def stalls_after(count: int) -> Misbehaviour:
    """Send this many bytes, then nothing until the client disconnects."""

    def stall(handler: Handler) -> None:
        handler.whole(stop=count)
        handler.wfile.flush()
        handler.connection.settimeout(30)
        handler.connection.recv(1)

    return stall


def ignores_range(handler: Handler) -> None:
    """Send the complete file whatever the requested range."""
    handler.whole(ranges=False)


def names_no_version(handler: Handler) -> None:
    """Send no ETag."""
    handler.whole(etag=False)


def another_etag(handler: Handler) -> None:
    """Answer as if the file had just been replaced, and ignore If-Range."""
    handler.server.etags[handler.path] = f'"{len(handler.server.requests)}"'
    del handler.headers["If-Range"]
    handler.whole()


class FileServer(ThreadingHTTPServer):
    """`files` by path; `scripts` are the misbehaviours of the next requests; `requests` and `sent` record what happened."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.scripts: dict[str, list[Misbehaviour]] = defaultdict(list)
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and Range of every request."""
        self.agents: set[str] = set()
        self.sent: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def note(self, handler: Handler) -> None:
        with self._lock:
            self.requests.append((handler.command, handler.path, handler.headers.get("Range", "")))
            self.agents.add(handler.headers.get("User-Agent", ""))

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect: they are part of the tests."""


@contextmanager
def running_server() -> Iterator[FileServer]:
    """A server on a free port of this machine."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class FakeTime:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.naps: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def changes_and_ends_after(count: int) -> Misbehaviour:
    """A file that is replaced before every request, and is never sent completely."""

    def change(handler: Handler) -> None:
        handler.server.etags[handler.path] = f'"{len(handler.server.requests)}"'
        handler.whole(stop=count)

    return change


def times(count: int, misbehaviour: Misbehaviour) -> list[Misbehaviour]:
    """The same misbehaviour for the next `count` requests."""
    return list(islice(iter(lambda: misbehaviour, None), count))
