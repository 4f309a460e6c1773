"""WARC files -> HTML pages, in bounded memory, whatever the files hold.

Records are read raw and decoded here, not by the WARC library: only so can a body that ends too early be told from a
whole one, and a body that unpacks to gigabytes be left alone after `max_page_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from data.crawl.bodies import BadBody, TooLarge, decode_body, looks_like_html
from data.crawl.bounded import LARGEST_RECORD, BoundedFile
from data.crawl.charset import decode_text
from data.crawl.remote import open_binary
from data.crawl.tail import ends_whole
from data.errors import MathQuarryError

PLAIN_TEXT = "text/plain"
"""Content type of what a WET file holds of a page."""
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_READ = 1 << 16
_HTTP_HEADER_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML response; of a WET file a text, as HTML, whose `content_type` is `PLAIN_TEXT`.

    `offset` is the record's place in the file (bytes), `date` the WARC date as written.
    """

    url: str
    html: str
    offset: int
    date: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record, or the rest of a file, that gives no page.

    Reasons: `too-large`, `not-html`, `http-status`, `bad-http` (no HTTP response inside), `bad-encoding` (a content
    coding that is unknown or broken), `no-url`, `broken-warc` (the file ends or turns to garbage here; `url` is the cut
    record's, or empty), `no-warc` (the file holds no WARC record at all; one such file is no reason to stop a crawl).
    """

    url: str
    reason: str
    detail: str


def read_pages(path: str, max_page_bytes: int) -> Iterator[Page | Dropped]:
    """Pages of the HTTP responses with status 200 and an HTML type, in the file's order; dropped responses with the reason.

    `path` is a file, an http(s) URL or another fsspec URL. A body of more than `max_page_bytes`, packed or unpacked, is dropped without
    being read further, and a record that claims more than `LARGEST_RECORD` ends the file.
    Raises `MathQuarryError` naming the file when it is missing or cannot be read.
    """
    with _opened(path) as file:
        yield from _read_records(file, path, max_page_bytes)


def read_pages_at(path: str, places: Sequence[tuple[int, str]], max_page_bytes: int) -> Iterator[Page | Dropped]:
    """The response at each of `places`, (offset, URL) pairs as `read_pages` gave them, skipping the records in between unread.

    Yields one result a place, in order. A file whose records cannot be reached singly (packed as a whole) is read from its beginning.
    Raises `MathQuarryError` when a place does not hold that URL any more.
    """
    with _opened(path) as file:
        for number, (offset, url) in enumerate(places):
            found = _record_at(file, offset, max_page_bytes)
            if found is None or found.url != url:
                yield from _scan(path, places[number:], max_page_bytes)
                return
            yield found


def _record_at(file: BinaryIO, offset: int, max_page_bytes: int) -> Page | Dropped | None:
    """The page of the record that begins at `offset`; None when no record with a page begins there."""
    if not file.seekable():
        return None
    file.seek(offset)
    source = BoundedFile(file)
    try:
        for record in ArchiveIterator(source, parse_http=False, record_types=WarcRecordType.any_type):
            source.allow(record.content_length)
            found = _read_page(record, source, max_page_bytes) if record.content_length <= LARGEST_RECORD else None
            return replace(found, offset=offset) if isinstance(found, Page) else found
    except OSError as error:
        if source.failure or error.errno is not None:  # the disk or the network, not the file's content
            raise
    return None


def _scan(path: str, places: Sequence[tuple[int, str]], max_page_bytes: int) -> Iterator[Page | Dropped]:
    pages = read_pages(path, max_page_bytes)
    for offset, url in places:
        for page in pages:
            if isinstance(page, Page) and (page.offset, page.url) == (offset, url):
                yield page
                break
        else:
            raise MathQuarryError(
                f"{path} has changed since it was first read: byte {offset} held {url} then. Start with a new crawl artifact."
            )


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        with open_binary(path) as file:
            yield file
    except FileNotFoundError:
        raise MathQuarryError(f"WARC file {path} does not exist.") from None
    except OSError as error:
        raise MathQuarryError(f"cannot read WARC file {path}: {error.strerror or error}.") from error


def _read_records(file: BinaryIO, path: str, max_page_bytes: int) -> Iterator[Page | Dropped]:
    source = BoundedFile(file)
    records = 0
    last, length = 0, 0
    try:
        for record in ArchiveIterator(source, parse_http=False, record_types=WarcRecordType.any_type):
            length = record.content_length
            if length > LARGEST_RECORD:
                detail = f"{path}: given up at byte {record.stream_pos}, where a record claims {length} bytes"
                yield Dropped(record.headers.get("WARC-Target-URI") or "", "broken-warc", detail)
                return
            source.allow(length)
            if not record.headers.get("WARC-Type"):
                continue
            records += 1
            last = record.stream_pos
            found = _read_page(record, source, max_page_bytes)
            if found is not None:
                yield found
                if isinstance(found, Dropped) and found.reason == "broken-warc":
                    return
    except OSError as error:
        if source.failure:  # the disk or the network, not the file's content
            raise source.failure from None
        if records:
            yield Dropped("", "broken-warc", f"{path}: unreadable after {records} records, near byte {last}: {error}")
            return
    if source.failure:
        raise source.failure
    if not records:
        yield Dropped("", "no-warc", f"{path} holds no readable WARC record; a WARC file may be gzipped, ARC files are not read")
        return
    if file.seekable() and not ends_whole(file, source.head, last, length):
        yield Dropped("", "broken-warc", f"{path}: cut short or damaged after {records} records, past byte {last}")


def _read_page(record: WarcRecord, source: BoundedFile, max_page_bytes: int) -> Page | Dropped | None:
    """What a record says of a page; None for records of other kinds. Raises the failure of the disk or the network, if that ended it."""
    if record.record_type not in (WarcRecordType.response, WarcRecordType.conversion):
        return None
    read = _read_response if record.record_type == WarcRecordType.response else _read_text
    found = read(record, max_page_bytes)
    if source.failure:
        raise source.failure
    return found


def _read_text(record: WarcRecord, max_page_bytes: int) -> Page | Dropped:
    """The text that a WET file holds of a page, as HTML of a paragraph a line: so it takes the way of all pages."""
    url = (record.headers.get("WARC-Target-URI") or "").strip().strip("<>")
    if not url:
        return Dropped("", "no-url", f"record {record.record_id} at byte {record.stream_pos} has no WARC-Target-URI")
    content_type = (record.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if content_type != PLAIN_TEXT:
        return Dropped(url, "not-html", f"a conversion to {content_type or 'no stated type'}")
    size = record.content_length
    if size > max_page_bytes:
        return Dropped(url, "too-large", f"{size} bytes, more than {max_page_bytes}")
    raw = _read_exactly(record, size)
    if len(raw) < size:
        return Dropped(url, "broken-warc", f"the file ends {size - len(raw)} bytes before this record does")
    html = _as_html(raw).decode("utf-8", "replace")
    return Page(url, html, record.stream_pos, record.headers.get("WARC-Date") or "", PLAIN_TEXT)


def _as_html(text: bytes) -> bytes:
    """A paragraph a line. In bytes, since one wide character makes every copy of a string four times as large."""
    text = text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b"\n", b"\n<p>")
    title = text.partition(b"\n")[0]
    return b"<html><head><title>" + title + b"</title></head><body><main><p>" + text + b"</main></body></html>"


def _read_response(record: WarcRecord, max_page_bytes: int) -> Page | Dropped:
    url = (record.headers.get("WARC-Target-URI") or "").strip().strip("<>")
    if not url:
        return Dropped("", "no-url", f"record {record.record_id} at byte {record.stream_pos} has no WARC-Target-URI")
    try:
        record.parse_http(max_header_len=_HTTP_HEADER_LIMIT)
    except OSError as error:
        if error.errno is not None:
            raise
        return Dropped(url, "bad-http", str(error))
    headers = record.http_headers
    status = headers.status_code if headers is not None else None
    if headers is None or status is None:
        return Dropped(url, "bad-http", "no HTTP status line")
    if status != 200:
        return Dropped(url, "http-status", f"{status}")
    content_type = (record.http_content_type or "").lower()
    if content_type and content_type not in _HTML_TYPES:
        return Dropped(url, "not-html", content_type)
    size = record.content_length
    if size > max_page_bytes:
        return Dropped(url, "too-large", f"{size} bytes, more than {max_page_bytes}")
    raw = _read_exactly(record, size)
    if len(raw) < size:
        return Dropped(url, "broken-warc", f"the file ends {size - len(raw)} bytes before this record does")
    try:
        body = decode_body(raw, headers.get("Transfer-Encoding") or "", headers.get("Content-Encoding") or "", max_page_bytes)
    except TooLarge as error:
        return Dropped(url, "too-large", str(error))
    except BadBody as error:
        return Dropped(url, "bad-encoding", str(error))
    if not content_type and not looks_like_html(body):
        return Dropped(url, "not-html", "no content type, and the body does not begin like HTML")
    html = decode_text(body, record.http_charset)
    return Page(url, html, record.stream_pos, record.headers.get("WARC-Date") or "", content_type or _HTML_TYPES[0])


def _read_exactly(record: WarcRecord, size: int) -> bytes:
    """Read `size` bytes, or what is there. A single read may return less than it could."""
    parts: list[bytes] = []
    missing = size
    while missing and (part := record.reader.read(min(missing, _READ))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
