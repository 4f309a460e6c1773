"""Normalizes WARC record headers: names in any case, as the standard (ISO 28500) allows, and lines that end in LF only.

The WARC library does not recognize `content-length`. Its lenient mode reads LF, but silently skips garbage.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from fastwarc.stream_io import GzipReader, Lz4Reader, ZstdReader
from fastwarc.warc import WarcRecord, WarcRecordType

from mathquarry.data.crawl.bounded import BoundedFile

_BLOCK = 1 << 16
_HEADER_LIMIT = 1 << 16
_PACKED = {b"\x1f\x8b": GzipReader, b"\x28\xb5\x2f\xfd": ZstdReader, b"\x04\x22\x4d\x18": Lz4Reader}
_NAMES = {name.lower(): name for name in (b"WARC-Type", b"Content-Length", b"Content-Type", b"WARC-Record-ID", b"WARC-Date")}
"""The names that the library looks for."""
_READ = {"response": WarcRecordType.response, "conversion": WarcRecordType.conversion}
"""Types of records that hold pages."""
_FIELD = re.compile(rb"^([!-9;-~]+)(?=[ \t]*:)", re.MULTILINE)
_LENGTH = re.compile(rb"^Content-Length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.MULTILINE)
_END = re.compile(rb"\r?\n\r?\n")


class OddHeader(Exception):
    """A record whose length the library cannot find, after `records` others."""

    def __init__(self, records: int) -> None:
        super().__init__(records)
        self.records = records


def recognize(record: WarcRecord) -> None:
    """Set a record's type from its header, whatever the case of the field's name and value."""
    kind = (record.headers.get("WARC-Type") or "").strip().lower()
    if kind in _READ:
        record.record_type = _READ[kind]
    if kind == "response":
        content_type = (record.headers.get("Content-Type") or "application/http").strip().lower()
        record.is_http = content_type.startswith("application/http")


def hides_length(record: WarcRecord) -> bool:
    """Whether the library mistook a record for empty because of its header's spelling."""
    if record.content_length:
        return False
    fields = record.headers.items()
    return any(
        "\n" in value or (name != "Content-Length" and name.lower() == "content-length" and value.strip().isdecimal())
        for name, value in fields
    )


class Respelled:
    """The unpacked bytes of a WARC file, with record headers in the spelling that the library expects.

    Bytes between headers are passed on unchanged, and so is everything from the first invalid header on.
    """

    def __init__(self, source: BoundedFile) -> None:
        head = source.read(_BLOCK)
        whole = _Rejoined(head, source)
        reader = next((reader for magic, reader in _PACKED.items() if head.startswith(magic)), None)
        self._file: BinaryIO = reader(whole) if reader else whole  # type: ignore[assignment]
        self._ready = bytearray()
        self._left: int | None = 0
        """Bytes of the record that are still to be passed on; infinite after an invalid header."""
        self._position = 0

    @property
    def ended_within(self) -> bool:
        """Whether the last record is incomplete."""
        return self._left != 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Not supported: the file is read in order."""
        raise OSError("a respelled file is read in order")

    def tell(self) -> int:
        """Bytes returned so far."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty only at the end. Raises `OSError` as the file and its decoder do."""
        size = _BLOCK if size < 0 else size
        if not self._ready:
            self._ready += self._file.read(_BLOCK)
        if not self._left and self._left is not None:
            self._header()
        found = bytes(self._ready[: size if self._left is None else min(size, self._left)])
        del self._ready[: len(found)]
        if self._left is not None:
            self._left -= len(found)
        self._position += len(found)
        return found

    def close(self) -> None:
        """Leave the file to its owner."""

    def _header(self) -> None:
        """Find the next complete header, respell it, and pass it on with its record."""
        start = 0
        while True:
            start = len(self._ready) - len(self._ready.lstrip(b"\r\n"))
            if start >= _BLOCK:  # endless line breaks: the library decides
                self._left = start
                return
            end = _END.search(self._ready, start)
            if end is not None or len(self._ready) - start > _HEADER_LIMIT or not (block := self._file.read(_BLOCK)):
                break
            self._ready += block
        if not self._ready.strip(b"\r\n\0 "):
            self._left = len(self._ready)
            return
        if end is None or not self._ready.startswith(b"WARC/", start):
            self._left = None
            return
        header = _FIELD.sub(lambda name: _NAMES.get(name[1].lower(), name[1]), bytes(self._ready[start : end.end()]))
        header = re.sub(rb"\r?\n", b"\r\n", header)
        self._ready[start : end.end()] = header
        length = _LENGTH.search(header)
        self._left = start + len(header) + (int(length[1]) if length else 0)


class _Rejoined:
    """A file whose first bytes have already been read."""

    def __init__(self, head: bytes, rest: BoundedFile) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        size = len(self._head) if size < 0 else size
        found, self._head = self._head[:size], self._head[size:]
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        raise OSError("read in order")

    def tell(self) -> int:
        return self._rest.tell() - len(self._head)

    def close(self) -> None:
        """Leave the file to its owner."""
