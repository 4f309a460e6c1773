"""Does a WARC file end where its last record does? A reader sees no difference between a whole file and one cut in a record's header."""

from __future__ import annotations

import re
import zlib
from typing import BinaryIO

_BLOCK = 1 << 16
_GZIP = b"\x1f\x8b"
_HEADER_LIMIT = 1 << 16
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


def ends_whole(file: BinaryIO, last_record: int) -> bool:
    """Whether nothing is cut off, and nothing but whitespace and zeros follows, after the record at byte `last_record`.

    Checks gzipped and plain files, by reading from that record on (the whole file where all of it is one gzip member). Files in other
    compressions are taken as whole: their decoders report a cut themselves.
    """
    file.seek(0)
    start = file.read(5)
    if start.startswith(_GZIP):
        file.seek(last_record)
        if file.read(2) != _GZIP:
            last_record = 0
        file.seek(last_record)
        return _gzip_ends_whole(file)
    file.seek(last_record)
    return not start.startswith(b"WARC/") or _record_ends_whole(file)


def _gzip_ends_whole(file: BinaryIO) -> bool:
    """Whether complete gzip members follow one another to the end of the file."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    pending = b""
    begun = False
    while block := pending or file.read(_BLOCK):
        if not begun and not (block := block.lstrip(b"\0")):
            pending = b""
            continue
        begun = True
        try:
            inflater.decompress(block, _BLOCK)
        except zlib.error:
            return False
        pending = inflater.unconsumed_tail
        if inflater.eof:
            pending = inflater.unused_data
            inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            begun = False
    return not begun


def _record_ends_whole(file: BinaryIO) -> bool:
    """Whether the file holds all of the plain record that begins here, and nothing after it."""
    start = file.tell()
    head = file.read(_HEADER_LIMIT).lstrip(b"\r\n")
    skipped = file.tell() - start - len(head)
    end = re.search(rb"\r?\n\r?\n", head)
    length = _LENGTH.search(head[: end.start() + 1]) if end else None
    if end is None or length is None:
        return False
    file.seek(0, 2)
    size = file.tell()
    finish = start + skipped + end.end() + int(length[1])
    if finish > size:
        return False
    file.seek(finish)
    return not any(block.strip(b"\r\n\0 ") for block in iter(lambda: file.read(_BLOCK), b""))
