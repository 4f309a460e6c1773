"""Reads HTML pages from WARC files, in bounded memory, whatever the files contain.

Records are read raw and decoded here, not by the WARC library. Only this way can a truncated body be told from a complete
one, and a body that unpacks to gigabytes be abandoned after `max_page_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from mathquarry.data.crawl.bodies import BadBody, TooLarge, decode_body, looks_like_html
from mathquarry.data.crawl.bounded import LARGEST_RECORD, BoundedFile
from mathquarry.data.crawl.charset import decode_text
from mathquarry.data.crawl.fieldnames import OddHeader, Respelled, hides_length, recognize
from mathquarry.data.crawl.media import HTML_TYPES, html_type, media_type
from mathquarry.data.crawl.tail import ends_whole
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.remote import open_binary

PLAIN_TEXT = "text/plain"
"""Content type of a page in a WET file."""
_READ = 1 << 16
_HTTP_HEADER_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML response, or a WET file's text wrapped as HTML, with `content_type` `PLAIN_TEXT`.

    `offset` is the record's position in the file (bytes), `date` the WARC date as written.
    """

    url: str
    html: str
    offset: int
    date: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record, or the rest of a file, that yields no page.

    Reasons: `too-large`, `not-html`, `http-status`, `bad-http` (no HTTP response inside), `bad-encoding` (an unknown or
    broken content coding), `no-url`, `no-type` (a record without a type), `broken-warc` (the file ends or turns to garbage
    here; `url` is the cut record's, or empty), `no-warc` (the file has no WARC record at all; one such file does not stop a
    crawl).
    """

    url: str
    reason: str
    detail: str


def read_pages(path: str, max_page_bytes: int) -> Iterator[Page | Dropped]:
    """Pages from HTTP responses with status 200 and an HTML type, and dropped responses with the reason, in the file's order.

    `path` is a file, an http(s) URL or another fsspec URL. A body of more than `max_page_bytes`, packed or unpacked, is dropped without
    being read further, and a record that states more than `LARGEST_RECORD` bytes ends the file.
    Raises `MathQuarryError` naming the file when it is missing or cannot be read.
    """
    with _opened(path) as file:
        source = BoundedFile(file)
        if not file.seekable():  # read once: the names must be right from the first record on
            yield from _read_records(file, source, Respelled(source), path, max_page_bytes)
            return
        try:
            yield from _read_records(file, source, None, path, max_page_bytes)
            return
        except OddHeader as odd:
            known = odd.records
    with _opened(path) as file:
        source = BoundedFile(file)
        yield from _read_records(file, source, Respelled(source), path, max_page_bytes, known)


def read_pages_at(path: str, places: Sequence[tuple[int, str]], max_page_bytes: int) -> Iterator[Page | Dropped]:
    """The response at each of `places`, (offset, URL) pairs from `read_pages`, without reading the records in between.

    Yields one result per place, in order. A file whose records cannot be accessed singly (packed as a whole) is read from its start.
    Raises `MathQuarryError` when a place no longer holds that URL.
    """
    with _opened(path) as file:
        for number, (offset, url) in enumerate(places):
            found = _record_at(file, offset, max_page_bytes)
            if found is None or found.url != url:
                yield from _scan(path, places[number:], max_page_bytes)
                return
            yield found


def _record_at(file: BinaryIO, offset: int, max_page_bytes: int) -> Page | Dropped | None:
    """The page of the record at `offset`; None if no record with a page starts there."""
    if not file.seekable():
        return None
    file.seek(offset)
    source = BoundedFile(file)
    try:
        for record in _records(source):
            source.allow(record.content_length)
            if hides_length(record):
                return None
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


def _records(source: BoundedFile | Respelled) -> Iterator[WarcRecord]:
    packed = isinstance(source, BoundedFile)
    for record in ArchiveIterator(source, parse_http=False, record_types=WarcRecordType.any_type, stream_detect=packed):
        recognize(record)
        yield record


def _read_records(
    file: BinaryIO, source: BoundedFile, respelled: Respelled | None, path: str, max_page_bytes: int, known: int = 0
) -> Iterator[Page | Dropped]:
    """The pages of `file` after its first `known` records, read through `source`, and through `respelled` if it is given.

    Raises `OddHeader` if a record can only be read through one.
    """
    records = 0
    last, length = 0, 0
    try:
        for record in _records(respelled or source):
            if hides_length(record):
                if respelled:
                    raise OSError("a header without end")
                raise OddHeader(records)
            length = record.content_length
            if length > LARGEST_RECORD:
                detail = f"{path}: given up at byte {record.stream_pos}, where a record claims {length} bytes"
                yield Dropped(record.headers.get("WARC-Target-URI") or "", "broken-warc", detail)
                return
            source.allow(length)
            if record.headers.is_empty():
                continue
            records += 1
            last = record.stream_pos
            if records <= known:
                continue
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
    # A respelled file counts its own bytes, so the whole packed file is checked.
    whole = not (respelled and respelled.ended_within)
    if whole and file.seekable() and not (respelled and source.head.startswith(b"WARC/")):
        whole = ends_whole(file, source.head, 0 if respelled else last, length)
    if not whole:
        yield Dropped("", "broken-warc", f"{path}: cut short or damaged after {records} records, past byte {last}")


def _read_page(record: WarcRecord, source: BoundedFile, max_page_bytes: int) -> Page | Dropped | None:
    """The page in a record; None for records of other kinds. Raises the error of the disk or the network, if that cut it short."""
    if not record.headers.get("WARC-Type"):
        return Dropped(_url(record), "no-type", f"record {record.record_id} at byte {record.stream_pos} has no WARC-Type")
    if record.record_type not in (WarcRecordType.response, WarcRecordType.conversion):
        return None
    read = _read_response if record.record_type == WarcRecordType.response else _read_text
    found = read(record, max_page_bytes)
    if source.failure:
        raise source.failure
    return found


def _url(record: WarcRecord) -> str:
    return (record.headers.get("WARC-Target-URI") or "").strip().strip("<>")


def _read_text(record: WarcRecord, max_page_bytes: int) -> Page | Dropped:
    """The text of a page in a WET file, as HTML with one paragraph per line, so that it is processed like other pages."""
    url = _url(record)
    if not url:
        return Dropped("", "no-url", f"record {record.record_id} at byte {record.stream_pos} has no WARC-Target-URI")
    content_type = media_type(record.headers.get("Content-Type") or "")
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
    """One paragraph per line. Works on bytes, since one wide character makes every copy of a string four times as large."""
    text = text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b"\n", b"\n<p>")
    title = text.partition(b"\n")[0]
    return b"<html><head><title>" + title + b"</title></head><body><main><p>" + text + b"</main></body></html>"


def _read_response(record: WarcRecord, max_page_bytes: int) -> Page | Dropped:
    url = _url(record)
    if not url:
        return Dropped("", "no-url", f"record {record.record_id} at byte {record.stream_pos} has no WARC-Target-URI")
    try:
        record.parse_http(max_header_len=_HTTP_HEADER_LIMIT, quirks_mode=True)
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
    stated = headers.get("Content-Type") or ""
    content_type = html_type(stated, record.headers.get("WARC-Identified-Payload-Type") or "")
    if content_type is None:
        return Dropped(url, "not-html", media_type(stated))
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
    return Page(url, html, record.stream_pos, record.headers.get("WARC-Date") or "", content_type or HTML_TYPES[0])


def _read_exactly(record: WarcRecord, size: int) -> bytes:
    """Read `size` bytes, or until the end. A single read may return less than is available."""
    parts: list[bytes] = []
    missing = size
    while missing and (part := record.reader.read(min(missing, _READ))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
