"""Reward servers for tests."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Reply = tuple[int, bytes, dict[str, str]]
Answer = Callable[[int, dict[str, Any]], Reply]
"""(number of the request from 0, its JSON) -> status, body, headers."""


@contextmanager
def served(answer: Answer, status: list[dict[str, str]] | None = None) -> Iterator[str]:
    """The address of a server; the headers of each request are added to `status`."""
    lock, seen = threading.Lock(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(seen)
                seen.append(asked)
                if status is not None:
                    status.append(dict(self.headers))
            code, body, headers = answer(number, asked)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/reward"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def served_by_a_script(path: Path) -> Iterator[str]:
    """The address of the server that a script starts at the port it is given."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(path), str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None, "the server has ended"
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()
