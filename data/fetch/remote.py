"""Remote files read like local ones, block by block, with no copy on disk.

A block is one range request through the polite client. An interrupted transfer resumes, a connection is held only while
bytes arrive, and a file that changes in between is an error, not a mixture. Memory: at most two blocks per open file.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO

import fsspec
from fsspec.spec import AbstractFileSystem

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import PoliteClient, client_for
from mathquarry.data.fetch.config import ClientConfig
from mathquarry.data.fetch.receiver import Remote, RemoteError

BLOCK_BYTES = 16 << 20
"""Largest range to read ahead."""
FIRST_BYTES = 1 << 18
"""Bytes fetched after a seek."""


def is_http(path: str) -> bool:
    """Whether a path is a URL that the polite client fetches."""
    return path.startswith(("http://", "https://"))


@contextmanager
def open_binary(path: str, config: ClientConfig | None = None) -> Iterator[BinaryIO]:
    """Open a path, an http(s) URL or another fsspec URL for reading. `config` is for http(s).

    Raises `OSError` for local files, `RemoteError` for http(s), `MathQuarryError` for a protocol that is unknown or not installed.
    """
    if "://" not in path:
        with open(path, "rb") as file:  # fsspec cannot open pipes
            yield file
        return
    if is_http(path):
        opened = PoliteFileSystem(client_for(config or ClientConfig()), BLOCK_BYTES).open(path, "rb")
    else:
        try:
            opened = fsspec.open(path, "rb")
        except (ValueError, ImportError) as error:
            raise MathQuarryError(f"cannot open {path}: {error}.") from error
    with opened as file:
        yield file


def version_digest(client: PoliteClient, url: str) -> tuple[str, int]:
    """SHA-256 of a file's URL, size and ETag or date, and its size. If the server reports no version, SHA-256 of its bytes."""
    remote = client.describe(url)
    if remote.version and remote.size is not None:
        return hashlib.sha256(f"{url}\n{remote.size}\n{remote.version}".encode()).hexdigest(), remote.size
    with PoliteFileSystem(client, BLOCK_BYTES).open(url, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


class PoliteFileSystem(AbstractFileSystem):
    """Files behind http(s) URLs, without listing. Each file is described once and assumed not to change while this object lives."""

    protocol = ("http", "https")
    cachable = False

    def __init__(self, client: PoliteClient, block_bytes: int) -> None:
        super().__init__()
        self.client, self.block_bytes = client, block_bytes
        self._describe = lru_cache(maxsize=None)(client.describe)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and version of a file. Raises `RemoteError`, also if the server does not give the size."""
        remote = self._describe(path)
        if remote.size is None:
            raise RemoteError(f"the server does not say how large {path} is, so it cannot be read in parts. Download it.")
        return {"name": path, "size": remote.size, "type": "file", "version": remote.version}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path itself: a web server lists nothing."""
        return [path]

    def modified(self, path: str) -> datetime.datetime:
        """A constant, since every block checks the version instead."""
        return datetime.datetime.fromtimestamp(0, datetime.UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> RemoteFile:
        details = self.info(path)
        return RemoteFile(self.client, path, Remote(details["size"], details["version"]), self.block_bytes)


class RangeFileSystem(PoliteFileSystem):
    """Files that several threads read at random positions, as DuckDB does: one range request per read, no read-ahead."""

    def _open(self, path: str, mode: str = "rb", **_: Any) -> RangeFile:  # type: ignore[override]
        details = self.info(path)
        return RangeFile(self.client, path, details["size"], details["version"])


class RangeFile:
    """A file in which every thread has its own position."""

    def __init__(self, client: PoliteClient, url: str, size: int, version: str) -> None:
        self._client, self._url, self._size, self._version = client, url, size, version
        self._here = threading.local()

    def seek(self, offset: int) -> int:
        """Move this thread's position."""
        self._here.position = offset
        return offset

    def tell(self) -> int:
        """This thread's position."""
        return getattr(self._here, "position", 0)

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer at the file's end only. Raises `RemoteError`."""
        start = self.tell()
        stop = min(start + size, self._size)
        data = self._client.read_range(self._url, start, stop, self._version) if stop > start else b""
        self._here.position = start + len(data)
        return data

    def close(self) -> None:
        """Do nothing: no connection is held between reads."""


class RemoteFile(io.RawIOBase):
    """A seekable file that keeps the last range it fetched. Ranges start small after a seek and double during sequential reading."""

    def __init__(self, client: PoliteClient, url: str, remote: Remote, block_bytes: int) -> None:
        assert remote.size is not None, "the file system refuses files of unknown size"
        super().__init__()
        self.size = remote.size
        self._client, self._url, self._version = client, url, remote.version
        self._largest, self._length = block_bytes, 0
        self._position = self._start = 0
        self._held = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is fetched."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the file's end only. Raises `RemoteError`."""
        end = self.size if size is None or size < 0 else min(self._position + size, self.size)
        parts = []
        while self._position < end:
            if not self._start <= self._position < self._start + len(self._held):
                self._fetch(end)
            part = self._held[self._position - self._start : end - self._start]
            parts.append(part)
            self._position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the file goes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fetch(self, end: int) -> None:
        in_order = self._position == self._start + len(self._held)
        self._length = min(2 * self._length if in_order and self._length else FIRST_BYTES, self._largest)
        stop = min(max(self._position + self._length, min(end, self._position + self._largest)), self.size)
        self._held = b""  # not two ranges at a time
        self._held = self._client.read_range(self._url, self._position, stop, self._version)
        self._start = self._position
        if len(self._held) < stop - self._start:
            raise RemoteError(f"{self._url} is shorter than the server said. Run again.")
