"""Decodes HTTP bodies: undoes transfer and content codings within a size limit."""

from __future__ import annotations

import io
import re
import zlib

from fastwarc.stream_io import BrotliReader, ZstdReader


class TooLarge(Exception):
    """A body that unpacks to more than the limit."""


class BadBody(Exception):
    """A body whose coding is unknown or broken."""


_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text contains. Tabs, line and page breaks and ISO-2022's escape are not among them."""
_LOOKED_AT = 4096
_HTML_START = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|\?xml)", re.IGNORECASE | re.DOTALL)


def decode_body(raw: bytes, transfer: str, content: str, limit: int) -> bytes:
    """Undo chunking and compression. Raises `TooLarge` past `limit` bytes, `BadBody` for an unknown or broken coding.

    Crawlers often store a decoded body with its old headers, so a body that is clearly not in the stated coding stays as it is.
    """
    body = _dechunk(raw) if "chunked" in transfer.lower() else raw
    codings = [name.strip().lower() for name in f"{content},{transfer}".split(",") if name.strip()]
    for coding in reversed(codings):
        body = _unpack(body, coding, limit)
    return body


def _dechunk(raw: bytes) -> bytes:
    """The joined chunks. Bytes after a bad chunk header are kept as they are, so a body that was never chunked stays complete."""
    parts: list[bytes] = []
    position = 0
    while position < len(raw):
        head = _CHUNK_SIZE.match(raw, position)
        if head is None:
            parts.append(raw[position:])
            break
        size = int(head[1], 16)
        if size == 0:
            break
        parts.append(raw[head.end() : head.end() + size])
        position = head.end() + size
        position += 2 if raw[position : position + 2] == b"\r\n" else raw[position : position + 1] == b"\n"
    return b"".join(parts)


def _unpack(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("identity", "none", "utf-8", "chunked") or not body:
        return body
    try:
        if coding in ("gzip", "x-gzip"):
            return _inflate(body, limit) if body.startswith(b"\x1f\x8b") else _undecoded(body, coding)
        if coding == "deflate":
            return _inflate(body, limit)
        if coding == "br":
            return _read_limited(BrotliReader(io.BytesIO(body)), limit)
        if coding == "zstd":
            return _read_limited(ZstdReader(io.BytesIO(body)), limit)
    except (zlib.error, OSError):
        return _undecoded(body, coding)
    return _undecoded(body, coding)


def _undecoded(body: bytes, coding: str) -> bytes:
    """The body itself, if it is text that contains a tag."""
    head = body[:_LOOKED_AT]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"<" in head and not _CONTROL.search(head)):
        return body
    raise BadBody(f"content coding {coding!r} is unknown or broken")


def _inflate(body: bytes, limit: int) -> bytes:
    """Unpack gzip with any number of members, zlib or raw deflate. If a stream breaks off, keep what was unpacked, as browsers do."""
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        parts = [inflater.decompress(body, limit + 1)]
    except zlib.error:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        parts = [inflater.decompress(body, limit + 1)]
    size = len(parts[0])
    while size <= limit and inflater.unused_data.startswith(b"\x1f\x8b"):
        rest = inflater.unused_data
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            parts.append(inflater.decompress(rest, limit + 1 - size))
        except zlib.error:
            break
        size += len(parts[-1])
    return _within(b"".join(parts), limit)


def _read_limited(reader: BrotliReader | ZstdReader, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= limit and (part := reader.read(limit + 1 - size)):
        parts.append(part)
        size += len(part)
    return _within(b"".join(parts), limit)


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise TooLarge(f"unpacks to more than {limit} bytes")
    return body


def looks_like_html(body: bytes) -> bool:
    """Whether a body without a stated type begins like an HTML document."""
    return _HTML_START.match(body[:1024].removeprefix(b"\xef\xbb\xbf")) is not None
