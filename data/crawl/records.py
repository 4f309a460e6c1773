"""Fetches single records of remote WARC files with range requests, verifies each, and writes them to new WARC files.

Rows of a columnar index give the position of each page's record. One request fetches neighbors in a file. A record is
kept byte for byte if it is one whole gzip member with a response for that URL and with that digest; otherwise it is
refused with a reason. Records are written in parts of fixed size in the order of the rows, and finished parts are reused.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from fastwarc.warc import ArchiveIterator, WarcRecordType

from mathquarry.data.crawl.commoncrawl import is_relative_path
from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.receiver import NotThere
from mathquarry.data.files import atomic_path, read_json, write_json
from mathquarry.data.store.workspace import Progress

PART_RECORDS = 10_000
"""Records requested per part; a killed run loses at most the current part."""
GAP_BYTES = 1 << 17
"""Largest gap between neighbors that are fetched with one request."""
SPAN_BYTES = 8 << 20
"""Largest request; also the largest record."""
_LARGEST_UNPACKED = 64 << 20
_COLUMNS = ["url", "warc_filename", "warc_record_offset", "warc_record_length", "content_digest"]


class Refused(Exception):
    """A record that does not match the index.

    Reasons: `bad-place`, `no-file`, `cut`, `too-large`, `no-response`, `wrong-url`, `wrong-digest`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a page's record according to a columnar index. `digest` is the Base32 SHA-1 of the body, "" if unknown."""

    url: str
    file: str
    offset: int
    length: int
    digest: str

    def check(self) -> None:
        """Raises `Refused` if the position is impossible."""
        if not is_relative_path(self.file) or self.offset < 0 or self.length <= 0:
            raise Refused("bad-place", f"{self.length} bytes at {self.offset} of {self.file[:200]!r}")
        if self.length > SPAN_BYTES:
            raise Refused("too-large", f"{self.length:,} packed bytes, more than {SPAN_BYTES:,}")


@dataclass(frozen=True)
class Span:
    """A range of one file that is fetched with one request."""

    file: str
    start: int
    stop: int
    places: list[Place]


def fetch_records(client: PoliteClient, base_url: str, rows: Path, folder: Path, progress: Progress) -> tuple[list[Path], Counter[str]]:
    """Fetch the records that the Parquet file `rows` names (columns as in Common Crawl's index) into `folder`/part-NNNNNN.warc.gz.

    Each part has a part-NNNNNN.json beside it that lists refused records. Returns the parts and the number of refused records
    by reason. Raises `RemoteError` when a server cannot be reached or sends only whole files; finished parts stay.
    """
    total = pq.ParquetFile(rows).metadata.num_rows
    parts: list[Path] = []
    with progress.track("fetch records", total, "record") as bar, ThreadPoolExecutor(client.config.connections) as threads:
        for number, places in enumerate(_parts(rows)):
            part = folder / f"part-{number:06d}.warc.gz"
            if not part.exists():
                _fetch_part(client, base_url, places, part, threads)
            parts.append(part)
            bar.advance(len(places))
    return parts, Counter(refusal["reason"] for refusal in refusals(parts))


def refusals(parts: Iterable[Path]) -> Iterator[dict[str, str]]:
    """Refused records, in order: {"url", "reason", "detail"}."""
    for part in parts:
        yield from read_json(_beside(part))


def _beside(part: Path) -> Path:
    return part.with_name(part.name.replace(".warc.gz", ".json"))


def _parts(rows: Path) -> Iterator[list[Place]]:
    for batch in pq.ParquetFile(rows).iter_batches(batch_size=PART_RECORDS, columns=_COLUMNS):
        yield [
            Place(row["url"], row["warc_filename"], row["warc_record_offset"], row["warc_record_length"], row["content_digest"] or "")
            for row in batch.to_pylist()
        ]


def _fetch_part(client: PoliteClient, base_url: str, places: Sequence[Place], part: Path, threads: ThreadPoolExecutor) -> None:
    refused: list[dict[str, str]] = []
    sound: list[Place] = []
    for place in places:
        try:
            place.check()
            sound.append(place)
        except Refused as why:
            refused.append({"url": place.url, "reason": why.reason, "detail": why.detail})
    with atomic_path(part) as temporary, temporary.open("wb") as out:
        out.write(_opening(part.name))
        for span, data in _fetched(client, base_url, spans(sound), threads):
            for place in span.places:
                try:
                    if isinstance(data, Refused):
                        raise data
                    packed = data[place.offset - span.start :][: place.length]
                    verify(place, packed)
                    out.write(packed)
                except Refused as why:
                    refused.append({"url": place.url, "reason": why.reason, "detail": why.detail})
        write_json(_beside(part), refused)


def spans(places: Iterable[Place], gap: int = GAP_BYTES, largest: int = SPAN_BYTES) -> list[Span]:
    """Group places, in any order, into spans of neighbors; a repeated place is fetched once."""
    found: list[Span] = []
    for place in sorted(set(places), key=lambda place: (place.file, place.offset, place.length, place.url)):
        stop = place.offset + place.length
        last = found[-1] if found else None
        if last and last.file == place.file and place.offset <= last.stop + gap and stop - last.start <= largest:
            found[-1] = Span(last.file, last.start, max(last.stop, stop), [*last.places, place])
        else:
            found.append(Span(place.file, place.offset, stop, [place]))
    return found


def _fetched(
    client: PoliteClient, base_url: str, wanted: Sequence[Span], threads: ThreadPoolExecutor
) -> Iterator[tuple[Span, bytes | Refused]]:
    """Spans with their bytes, in order, with a few fetched ahead."""

    def fetch(span: Span) -> bytes | Refused:
        try:
            return client.read_range(f"{base_url.rstrip('/')}/{span.file}", span.start, span.stop)
        except NotThere as error:
            return Refused("no-file", str(error))

    ahead: deque[tuple[Span, Future[bytes | Refused]]] = deque()
    try:
        for span in wanted:
            ahead.append((span, threads.submit(fetch, span)))
            if len(ahead) > 2 * client.config.connections:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
    finally:
        for _, future in ahead:
            future.cancel()


def verify(place: Place, packed: bytes) -> None:
    """Raises `Refused` unless `packed` is the record that `place` names: a complete response for that URL with that digest."""
    if len(packed) < place.length:
        raise Refused("cut", f"the file ends {place.length - len(packed)} bytes before the record does")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        record = inflater.decompress(packed, _LARGEST_UNPACKED + 1)
    except zlib.error as error:
        raise Refused("cut", f"no gzip member at byte {place.offset} of {place.file}: {error}") from None
    if len(record) > _LARGEST_UNPACKED:
        raise Refused("too-large", f"unpacks to more than {_LARGEST_UNPACKED:,} bytes")
    if not inflater.eof or inflater.unused_data:
        raise Refused("cut", f"the gzip member at byte {place.offset} of {place.file} does not have {place.length} bytes")
    try:
        found = next(iter(ArchiveIterator(io.BytesIO(record), parse_http=False, record_types=WarcRecordType.any_type)), None)
        if found is None or found.record_type != WarcRecordType.response:
            raise Refused("no-response", f"there is no response record at byte {place.offset} of {place.file}")
        url = (found.headers.get("WARC-Target-URI") or "").strip("<> ")
        block = found.reader.read(found.content_length)
    except OSError as error:
        raise Refused("no-response", f"byte {place.offset} of {place.file}: {error}") from None
    if url != place.url:
        raise Refused("wrong-url", f"the record belongs to {url[:500]}")
    body = block.partition(b"\r\n\r\n")[2]
    digest = base64.b32encode(hashlib.sha1(body).digest()).decode()
    if place.digest and place.digest.removeprefix("sha1:") != digest:
        raise Refused("wrong-digest", f"the body's SHA-1 is {digest}, the index has {place.digest}")


def _opening(name: str) -> bytes:
    """A warcinfo record. It describes the file, and makes it a valid WARC file even if every record was refused."""
    block = b"software: MathQuarry\r\nformat: WARC File Format 1.0\r\n"
    head = (
        f"WARC/1.0\r\nWARC-Type: warcinfo\r\nWARC-Date: 1970-01-01T00:00:00Z\r\nWARC-Filename: {name}\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"Content-Type: application/warc-fields\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0)
