"""Checks that a WARC file ends with its last record. To a reader, a file that is cut in a record's header looks complete."""

from __future__ import annotations

import re
import zlib
from typing import BinaryIO

_BLOCK = 1 << 16
_GZIP = b"\x1f\x8b"
_HEADER_LIMIT = 1 << 16
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


def ends_whole(file: BinaryIO, head: bytes, last_record: int, length: int) -> bool:
    """Whether the last record is complete and only whitespace and zeros follow it.

    That record starts at byte `last_record` and states `length` bytes; `head` is the file's first bytes. Checks gzipped and plain files
    by reading from that record on (the whole file if all of it is one gzip member). Files in other compressions count as complete:
    their decoders report a cut themselves.
    """
    if head.startswith(_GZIP):
        file.seek(last_record)
        if file.read(2) != _GZIP:
            last_record = 0
        file.seek(last_record)
        return _gzip_ends_whole(file, length)
    file.seek(last_record)
    return not head.startswith(b"WARC/") or _record_ends_whole(file)


def _gzip_ends_whole(file: BinaryIO, length: int) -> bool:
    """Whether the rest of the file consists of complete gzip members that unpack to at least `length` bytes."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    pending = b""
    begun = False
    unpacked = 0
    while block := pending or file.read(_BLOCK):
        if not begun and not (block := block.lstrip(b"\0")):
            pending = b""
            continue
        begun = True
        try:
            unpacked += len(inflater.decompress(block, _BLOCK))
        except zlib.error:
            return False
        pending = inflater.unconsumed_tail
        if inflater.eof:
            pending = inflater.unused_data
            inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            begun = False
    return not begun and unpacked >= length


def _record_ends_whole(file: BinaryIO) -> bool:
    """Whether the file contains all of the plain record that starts here, and nothing after it."""
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
