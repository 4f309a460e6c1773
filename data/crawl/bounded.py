"""Limits how many bytes of a WARC file reach the reader, so that a malicious file cannot keep it busy."""

from __future__ import annotations

from typing import BinaryIO

LARGEST_RECORD = 1 << 30
"""Largest length in bytes that a record may state. After a longer one, the rest of the file is skipped."""
_SLACK = 1 << 17
"""Bytes allowed for read-ahead and the next record's header."""


class BoundedFile:
    """Passes on only as many bytes as the current records account for. A reader needs more only if the data holds no records.

    Without this limit, a few packed megabytes that unpack to nothing but line breaks would keep a reader busy for hours, and
    an endless stream forever. It also counts bytes, so that a file that cannot seek has positions.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._allowed = _SLACK
        self.head = b""
        """The first bytes of the file."""
        self.failure: Exception | None = None
        """The error that the file raised; the WARC library reports it as damage."""

    def allow(self, length: int) -> None:
        """Allow a record of `length` bytes. Incompressible data grows by less than a thousandth when packed."""
        self._allowed = self._position + length + length // 1000 + _SLACK

    def read(self, size: int = -1) -> bytes:
        """Read like a file. Raises `OSError` beyond the allowed bytes."""
        if self._position > self._allowed:
            raise OSError(f"no record in {_SLACK} bytes after the last one")
        try:
            data = self._file.read(size)
        except Exception as error:
            self.failure = error
            raise
        self._position += len(data)
        self.head = self.head or data[:8]
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Not supported: the limit assumes that the file is read in order."""
        raise OSError("a bounded file is read in order")

    def close(self) -> None:
        """Do nothing: the file's owner closes it."""

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position
