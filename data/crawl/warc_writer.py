"""Writes WARC files: one gzip member per record, and the same bytes for the same pages.

fastwarc's writer stamps the current time. Here records have the given dates, and ids derived from their content.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from datetime import UTC, datetime
from typing import BinaryIO

_SOFTWARE = "mathquarry mini-web"
_COMPRESSION = 6


class WarcWriter:
    """Writes `warcinfo` and `response` records to a binary file."""

    def __init__(self, file: BinaryIO, name: str, date: datetime) -> None:
        self._file = file
        self._records = 0
        self._name = name
        info = f"software: {_SOFTWARE}\r\nformat: WARC File Format 1.0\r\n".encode()
        self._write("warcinfo", date, [("WARC-Filename", name), ("Content-Type", "application/warc-fields")], info)

    def response(
        self, url: str, body: bytes, date: datetime, status: str = "200 OK", content_type: str = "text/html; charset=utf-8"
    ) -> int:
        """Write an HTTP response; returns the record's offset in the file."""
        http_date = date.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        head = (
            f"HTTP/1.1 {status}\r\nDate: {http_date}\r\nServer: nginx\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        fields = [
            ("WARC-Target-URI", url),
            ("WARC-Payload-Digest", _sha1(body)),
            ("Content-Type", "application/http; msgtype=response"),
        ]
        return self._write("response", date, fields, head.encode() + body)

    def _write(self, kind: str, date: datetime, fields: list[tuple[str, str]], block: bytes) -> int:
        offset = self._file.tell()
        identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{self._name}/{self._records}/{_sha1(block)}")
        header = [
            ("WARC-Type", kind),
            ("WARC-Record-ID", f"<urn:uuid:{identity}>"),
            ("WARC-Date", date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
            *fields,
            ("WARC-Block-Digest", _sha1(block)),
            ("Content-Length", str(len(block))),
        ]
        head = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in header) + "\r\n"
        self._file.write(gzip.compress(head.encode() + block + b"\r\n\r\n", _COMPRESSION, mtime=0))
        self._records += 1
        return offset


def _sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()
