"""HTTP bodies: transfer and content codings undone within a size limit, and bytes turned into text."""

from __future__ import annotations

import io
import re
import zlib

from fastwarc.stream_io import BrotliReader, ZstdReader
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5


class TooLarge(Exception):
    """A body that unpacks to more than the limit."""


class BadBody(Exception):
    """A body whose coding is unknown or broken."""


_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_HTML_START = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|\?xml)", re.IGNORECASE | re.DOTALL)
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def decode_body(raw: bytes, transfer: str, content: str, limit: int) -> bytes:
    """Undo chunking and compression. Raises `TooLarge` past `limit` bytes, `BadBody` for an unknown or broken coding.

    Crawlers often store a body decoded under its old headers, so a body plainly not in the coding it claims stays as it is.
    """
    body = _dechunk(raw) if "chunked" in transfer.lower() else raw
    for coding in reversed([name.strip().lower() for name in content.split(",") if name.strip()]):
        body = _unpack(body, coding, limit)
    return body


def _dechunk(raw: bytes) -> bytes:
    """The joined chunks. What follows a bad chunk header is taken as it is: a body that was never chunked stays whole."""
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
    if coding in ("identity", "none", "utf-8") or not body:
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
    if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return body
    raise BadBody(f"content coding {coding!r} is unknown or broken")


def _inflate(body: bytes, limit: int) -> bytes:
    """Unpack gzip, zlib or raw deflate; what was unpacked before a stream breaks off is kept, as browsers do."""
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        unpacked = inflater.decompress(body, limit + 1)
    except zlib.error:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked = inflater.decompress(body, limit + 1)
    return _within(unpacked, limit)


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
    """Whether a body of no stated type begins like an HTML document."""
    return _HTML_START.match(body[:1024].removeprefix(b"\xef\xbb\xbf")) is not None


def decode_text(body: bytes, charset: str | None) -> str:
    """Text of an HTML body: a byte order mark decides, then UTF-8 if valid, then the HTTP charset, `<meta>`, and detection.

    UTF-8 goes before what is declared: the declaration is wrong far more often than other text is valid UTF-8 by chance.
    """
    for mark, encoding in _BOMS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    if b"\0" not in body and b"\x1b" not in body:  # UTF-16 without a mark and ISO-2022 would pass as UTF-8
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            pass
    declared = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    encoding = declared or detect_encoding(body, from_html_meta=True) or "utf-8"
    return bytes_to_str(body, encoding, errors="replace", fallback_encodings=("utf-8", "cp1252"))
