"""A WARC file's bytes on their way to the reader, cut off where no sane file would go on."""

from __future__ import annotations

from typing import BinaryIO

LARGEST_RECORD = 1 << 30
"""Bytes that a record may claim. Longer ones are not even skipped: the rest of the file is given up."""
_SLACK = 1 << 17
"""Room for what the reader reads ahead, and the next record's header."""


class BoundedFile:
    """Lets through what the records at hand account for; the reader asks for more only between records that are none.

    Without this, a few packed megabytes that unpack to nothing but line ends would keep a reader busy for hours, and an
    endless stream for ever. It also counts, so a file that cannot seek has positions.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._allowed = _SLACK
        self.head = b""
        """The first bytes of the file."""
        self.failure: Exception | None = None
        """What the file raised; the WARC library reports it as damage."""

    def allow(self, length: int) -> None:
        """A record of so many bytes begins. What cannot be packed grows by less than a thousandth."""
        self._allowed = self._position + length + length // 1000 + _SLACK

    def read(self, size: int = -1) -> bytes:
        """Read as a file does. Raises `OSError` past what was allowed."""
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
        """Not possible: what was allowed goes by the order of the file."""
        raise OSError("a bounded file is read in order")

    def close(self) -> None:
        """Leave the file to its owner."""

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position
