"""WARC files as an attacker would write them: small on disk, whatever sizes they claim."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

GIB = 1 << 30


def header(url: str, length: object, kind: str = "response", content_type: str = "application/http; msgtype=response") -> bytes:
    return (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"WARC-Date: 2024-01-02T03:04:05Z\r\nWARC-Target-URI: http://h.example/{url}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n%s\r\n"


def page(url: str, body: bytes = b"<html>hello</html>", *, length: object = None, headers: bytes = b"") -> bytes:
    """A record with a stated length of `length` bytes."""
    block = HTTP % headers + body
    return header(url, len(block) if length is None else length) + block + b"\r\n\r\n"


def text(url: str, block: bytes) -> bytes:
    """A record in the form of WET files."""
    return header(url, len(block), "conversion", "text/plain") + block + b"\r\n\r\n"


def packed_run(unit: bytes, count: int) -> bytes:
    """An unterminated gzip member that begins as `unit` repeated to `count` bytes, made without compressing all of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = unit * ((1 << 20) // len(unit))
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (count // len(block) - 1)


def packed_record(head: bytes, unit: bytes, count: int) -> bytes:
    """An unterminated gzip member of `head` and repeated `unit`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = unit * ((1 << 20) // len(unit))
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + again * (count // len(block))


def _gzip(*records: bytes) -> bytes:
    return b"".join(gzip.compress(record, 1) for record in records)


def _with_hole(path: Path, start: bytes, size: int, end: bytes) -> None:
    """A record of `size` bytes, almost all of them a hole in the file, and the bytes after it."""
    with path.open("wb") as file:
        file.write(start)
        file.seek(size - len(HTTP % b"") + len(start))
        file.write(b"\r\n\r\n" + end)


def _sparse(path: Path, head: bytes, size: int) -> None:
    path.write_bytes(head)
    os.truncate(path, size)


A, Z = page("a"), page("z")

WRITERS: dict[str, Callable[[Path], object]] = {
    "endless-plain": lambda path: _sparse(path, A + header("endless", 50 * GIB) + HTTP % b"", 50 * GIB),
    "endless-zeros": lambda path: _sparse(path, A, 50 * GIB),
    "endless-gzip": lambda path: path.write_bytes(_gzip(A) + packed_record(header("endless", 50 * GIB) + HTTP % b"", b"x", 50 * GIB)),
    "endless-in-a-gigabyte": lambda path: path.write_bytes(_gzip(A) + packed_record(header("e", GIB) + HTTP % b"", b"x", 50 * GIB)),
    "endless-line-ends": lambda path: path.write_bytes(_gzip(A) + packed_run(b"\r\n", 50 * GIB)),
    "endless-header": lambda path: path.write_bytes(_gzip(A) + packed_record(b"WARC/1.0\r\nWARC-Type: response\r\nX: ", b"x", 50 * GIB)),
    "endless-headers": lambda path: path.write_bytes(_gzip(A) + packed_record(b"WARC/1.0\r\nWARC-Type: x\r\n", b"X: y\r\n", 50 * GIB)),
    "endless-http-header": lambda path: path.write_bytes(
        _gzip(A, header("h", 50_000_020) + b"HTTP/1.1 200 OK\r\nX: ".ljust(50_000_020, b"x") + b"\r\n\r\n", Z)
    ),
    "bomb-in-body": lambda path: path.write_bytes(_gzip(A, page("bomb", packed_run(b"\0", GIB), headers=b"Content-Encoding: gzip\r\n"), Z)),
    "bomb-in-bomb": lambda path: path.write_bytes(
        _gzip(A, page("bomb", gzip.compress(packed_run(b"\0", GIB)), headers=b"Content-Encoding: gzip, gzip\r\n"), Z)
    ),
    "page-of-200-MB": lambda path: path.write_bytes(_gzip(A, page("large", b"<html>" + bytes(200_000_000)), Z)),
    "page-of-200-MB-plain": lambda path: _with_hole(path, A + header("large", 200_000_000) + HTTP % b"", 200_000_000, Z),
    "wide-characters": lambda path: path.write_bytes(_gzip(A, page("wide", "𝔸".encode() * 1_200_000), Z)),
    "text-of-line-ends": lambda path: path.write_bytes(_gzip(A, text("lines", b"\n" * 4_900_000), Z)),
    "text-of-wide-lines": lambda path: path.write_bytes(_gzip(A, text("lines", "𝔸".encode() + b"<\n" * 2_400_000), Z)),
    "invalid-utf-8": lambda path: path.write_bytes(_gzip(page("bytes", b"<html>" + bytes(range(128, 256)) * 50), Z)),
    "chunk-sizes-lie": lambda path: path.write_bytes(
        _gzip(page("chunks", b"ffffffff\r\n<html>", headers=b"Transfer-Encoding: chunked\r\n"), Z)
    ),
    "garbage-between": lambda path: path.write_bytes(_gzip(A) + bytes(range(1, 256)) * 100 + _gzip(Z)),
    "truncated-member": lambda path: path.write_bytes(_gzip(A) + _gzip(A)[:-30] + _gzip(Z)),
    "truncated-at-the-end": lambda path: path.write_bytes(_gzip(A) + _gzip(Z)[:-9]),
    "not-warc": lambda path: path.write_bytes(_gzip(b"hello " * 1000)),
    **{
        f"length-{name}-{form}": (
            lambda path, length=length, join=join: path.write_bytes(join(A, page("lies", b"<html>" + b"lie" * 30, length=length), Z))
        )
        for name, length in {
            "short": 60,
            "long": 300,
            "longer-than-the-file": 3000,
            "negative": -5,
            "huge": 10**15,
            "beyond-64-bit": 10**25,
            "no-number": "abc",
            "empty": "",
        }.items()
        for form, join in {"plain": lambda *records: b"".join(records), "gzip": _gzip}.items()
    },
}  # fmt: skip

EXPECTED: dict[str, list[str]] = {
    "endless-plain": ["page", "broken-warc"],
    "endless-zeros": ["page", "broken-warc"],
    "endless-gzip": ["page", "broken-warc"],
    "endless-in-a-gigabyte": ["page", "too-large", "broken-warc"],
    "endless-line-ends": ["page", "broken-warc"],
    "endless-header": ["page", "broken-warc"],
    "endless-headers": ["page", "broken-warc"],
    "endless-http-header": ["page", "bad-http", "page"],
    "bomb-in-body": ["page", "too-large", "page"],
    "bomb-in-bomb": ["page", "too-large", "page"],
    "page-of-200-MB": ["page", "too-large", "page"],
    "page-of-200-MB-plain": ["page", "too-large", "page"],
    "wide-characters": ["page", "page", "page"],
    "text-of-line-ends": ["page", "page", "page"],
    "text-of-wide-lines": ["page", "page", "page"],
    "invalid-utf-8": ["page", "page"],
    "chunk-sizes-lie": ["page", "page"],
    "garbage-between": ["page", "broken-warc"],
    "truncated-member": ["page", "broken-warc"],
    "truncated-at-the-end": ["page", "page", "broken-warc"],
    "not-warc": ["no-warc"],
    **{
        f"length-{name}-{form}": found
        for name, found in {
            "short": ["page", "page", "broken-warc"],
            "long": ["page", "page", "broken-warc"],
            "longer-than-the-file": ["page", "broken-warc"],
            "negative": ["page", "bad-http", "broken-warc"],
            "huge": ["page", "broken-warc"],
            "beyond-64-bit": ["page", "bad-http", "broken-warc"],
            "no-number": ["page", "bad-http", "broken-warc"],
            "empty": ["page", "bad-http", "broken-warc"],
        }.items()
        for form in ("plain", "gzip")
    },
}
"""The expected result of each file: pages, reasons, or an error that names the file."""
