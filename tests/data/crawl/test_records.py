import base64
import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.crawl import records
from mathquarry.data.crawl.build import build_crawl, outside_sources
from mathquarry.data.crawl.commoncrawl import list_url
from mathquarry.data.crawl.config import CommonCrawlRecords, CrawlConfig
from mathquarry.data.crawl.records import Place, Refused, fetch_records, spans, verify
from mathquarry.data.crawl.warc import Page, read_pages
from mathquarry.data.crawl.warc_writer import WarcWriter
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.receiver import RangeIgnored, RemoteError
from mathquarry.data.store.workspace import Progress, Workspace
from tests.data.crawl.conftest import MakeClient
from tests.data.crawl.http_server import FileServer, ends_after, ignores_range, status, times
from tests.data.mine.test_mine_index import row

CRAWL = "CC-MAIN-2026-10"
DATE = datetime(2026, 3, 1, tzinfo=UTC)
PAGES = {
    f"crawl-data/{CRAWL}/{file}.warc.gz": {
        f"https://maths.example.org/questions/{file}{number}": f"<html>page {number} of {file}</html>".encode() * 20 for number in range(12)
    }
    for file in ("a", "b")
}
URLS = [url for pages in PAGES.values() for url in pages]


def write_file(name: str) -> tuple[bytes, list[dict[str, object]]]:
    """A WARC file and its rows of the index."""
    buffer, rows = io.BytesIO(), []
    writer = WarcWriter(buffer, name, DATE)
    for url, body in PAGES[name].items():
        offset = writer.response(url, body, DATE)
        digest = base64.b32encode(hashlib.sha1(body).digest()).decode()
        place = {"warc_filename": name, "warc_record_offset": offset, "warc_record_length": buffer.tell() - offset}
        rows.append(row(url, 0, content_digest=digest, **place))
    return buffer.getvalue(), rows


@pytest.fixture
def rows(server: FileServer) -> list[dict[str, object]]:
    found = []
    for name in PAGES:
        server.files[f"/{name}"], listed = write_file(name)
        found += listed
    return found


@pytest.fixture
def table(rows: list[dict[str, object]], tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def pages_of(parts: list[Path]) -> dict[str, str]:
    found = [page for part in parts for page in read_pages(str(part), 100_000)]
    assert all(isinstance(page, Page) for page in found)
    return {page.url: page.html for page in found if isinstance(page, Page)}


def test_records_come_byte_for_byte_with_few_requests(server: FileServer, table: Path, make_client: MakeClient, tmp_path: Path) -> None:
    parts, refused = fetch_records(make_client(), server.url, table, tmp_path / "records", Progress())
    assert pages_of(parts) == {url: body.decode() for pages in PAGES.values() for url, body in pages.items()}
    assert not refused
    assert len(server.requests) == 2


def test_neighbours_are_joined_up_to_a_gap_and_a_size() -> None:
    def place(file: str, offset: int, length: int = 10) -> Place:
        return Place(f"http://h/{file}{offset}", file, offset, length, "")

    places = [place("b", 0), place("a", 25), place("a", 0), place("a", 10), place("a", 40), place("a", 60, 30), place("a", 10)]
    found = [(span.file, span.start, span.stop, len(span.places)) for span in spans(places, gap=5, largest=40)]
    assert found == [("a", 0, 35, 3), ("a", 40, 50, 1), ("a", 60, 90, 1), ("b", 0, 10, 1)]


def refuse(place: Place, packed: bytes) -> str:
    with pytest.raises(Refused) as why:
        verify(place, packed)
    return why.value.reason


def test_a_record_that_is_not_what_the_index_says_is_refused_with_a_reason() -> None:
    name = next(iter(PAGES))
    data, listed = write_file(name)
    first = listed[3]
    url, digest = str(first["url"]), str(first["content_digest"])
    offset, length = int(str(first["warc_record_offset"])), int(str(first["warc_record_length"]))
    place = Place(url, name, offset, length, digest)
    packed = data[offset : offset + length]
    verify(place, packed)
    verify(Place(url, name, offset, length, ""), packed)
    assert refuse(place, packed[:-5]) == "cut"
    assert refuse(Place(url, name, offset, length - 5, digest), packed[:-5]) == "cut"
    assert refuse(Place(url, name, offset, length + 5, digest), data[offset : offset + length + 5]) == "cut"
    assert refuse(Place(url, name, offset + 1, length, digest), data[offset + 1 : offset + 1 + length]) == "cut"
    assert refuse(Place(url + "x", name, offset, length, digest), packed) == "wrong-url"
    assert refuse(Place(url, name, offset, length, "A" * 32), packed) == "wrong-digest"
    information = data[: int(str(listed[0]["warc_record_offset"]))]
    assert refuse(Place(url, name, 0, len(information), digest), information) == "no-response"
    for content, reason in ((b"hello", "no-response"), (b"", "no-response"), (b"WARC/1.0\r\nWARC-Type: response\r\n", "wrong-url")):
        member = gzip.compress(content)
        assert refuse(Place(url, name, 0, len(member), digest), member) == reason


def test_a_record_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LARGEST_UNPACKED", 1000)
    member = gzip.compress(bytes(2000))
    assert refuse(Place("http://h/", "a", 0, len(member), ""), member) == "too-large"


def test_refused_records_are_counted_and_the_others_kept(
    server: FileServer, rows: list[dict[str, object]], make_client: MakeClient, tmp_path: Path
) -> None:
    bad = [
        {"warc_filename": "../../etc/passwd"},
        {"warc_record_offset": -1},
        {"warc_record_length": 0},
        {"warc_record_length": 1 << 40},
        {"warc_filename": "crawl-data/gone.warc.gz"},
        {"warc_record_offset": 10**12},
        {"content_digest": "A" * 32},
        {"url": "https://other.example/"},
    ]
    changed = [entry | change for entry, change in zip(rows, bad, strict=False)] + rows[len(bad) :]
    pq.write_table(pa.Table.from_pylist(changed), tmp_path / "rows.parquet")
    parts, refused = fetch_records(make_client(attempts=2), server.url, tmp_path / "rows.parquet", tmp_path / "records", Progress())
    assert refused == {"bad-place": 3, "too-large": 1, "no-file": 1, "cut": 1, "wrong-digest": 1, "wrong-url": 1}
    assert set(pages_of(parts)) == set(URLS[len(bad) :])


def test_a_run_that_broke_off_keeps_its_finished_parts(
    server: FileServer, table: Path, make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PART_RECORDS", 5)
    second = f"/{list(PAGES)[1]}"
    server.scripts[second] = times(20, status(503))
    with pytest.raises(RemoteError, match="503"):
        fetch_records(make_client(attempts=2, connections=1), server.url, table, tmp_path / "records", Progress())
    assert [path.name for path in sorted((tmp_path / "records").glob("*.warc.gz"))] == ["part-000000.warc.gz", "part-000001.warc.gz"]
    server.scripts.clear()
    before = len(server.requests)
    parts, _ = fetch_records(make_client(), server.url, table, tmp_path / "records", Progress())
    assert set(pages_of(parts)) == set(URLS)
    assert len(parts) == 5
    assert len(server.requests) - before == 1 + 1 + 1 + 1  # the third part lies in both files


def test_bad_connections_change_nothing_and_whole_files_are_not_fetched(
    server: FileServer, table: Path, make_client: MakeClient, tmp_path: Path
) -> None:
    first, second = (f"/{name}" for name in PAGES)
    server.scripts[first] = [status(429, Retry_After="1"), ends_after(100), status(500)]
    parts, refused = fetch_records(make_client(), server.url, table, tmp_path / "records", Progress())
    assert set(pages_of(parts)) == set(URLS)
    assert not refused
    server.scripts[second] = [ignores_range]
    with pytest.raises(RangeIgnored, match="sends only whole files"):
        fetch_records(make_client(), server.url, table, tmp_path / "again", Progress())


@pytest.fixture
def source(server: FileServer, rows: list[dict[str, object]], tmp_path: Path) -> CommonCrawlRecords:
    """A snapshot with its index on the server, annotations, and a corpus that contains one of the pages."""
    index = f"cc-index/table/cc-main/warc/crawl={CRAWL}/subset=warc/part-00000.gz.parquet"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "index.parquet")
    server.files[f"/{index}"] = (tmp_path / "index.parquet").read_bytes()
    lines = f"{index}\n{index.replace('subset=warc', 'subset=robotstxt')}\n"
    server.files[list_url("", CRAWL, "cc-index-table")] = gzip.compress(lines.encode())
    (tmp_path / "annotations.toml").write_text('[[path]]\nhost = "maths.example.org"\nprefix = "/questions"\nverdict = "accept"\n')
    pq.write_table(pa.table({"canonical_url": ["maths.example.org/questions/a0"]}), tmp_path / "corpus.parquet")
    return CommonCrawlRecords(
        crawl=CRAWL, base_url=server.url, annotations=str(tmp_path / "annotations.toml"), known=[str(tmp_path / "corpus.parquet")]
    )


def test_a_crawl_artifact_holds_the_uncollected_pages_under_accepted_paths(
    source: CommonCrawlRecords, server: FileServer, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path / "crawl")
    summary = build_crawl(CrawlConfig(source=source), tmp_path, workspace)
    listing = json.loads((workspace.out / "warcs.json").read_text())
    assert [file["path"] for file in listing["files"]] == ["records/part-000000.warc.gz"]
    assert listing["list"]["url"] == list_url(server.url, CRAWL, "cc-index-table")
    assert set(pages_of([workspace.out / file["path"] for file in listing["files"]])) == set(URLS[1:])
    assert pq.read_table(workspace.out / "wanted.parquet")["url"].to_pylist() == URLS[1:]
    assert summary == {"files": 1, "bytes": listing["files"][0]["bytes"], "wanted": 23, "refused": 0}


def test_what_decides_the_pages_is_the_artifacts_identity(source: CommonCrawlRecords, server: FileServer, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        return {found.path: found.sha256 for found in outside_sources(CrawlConfig(source=source))}

    before = digests()
    assert set(before) == {list_url(server.url, CRAWL, "cc-index-table"), source.annotations, *source.known}
    (tmp_path / "annotations.toml").write_text('[[path]]\nhost = "maths.example.org"\nverdict = "accept"\n')
    assert {path for path, digest in digests().items() if digest != before[path]} == {source.annotations}
    patient = source.model_copy(update={"client": source.client.model_copy(update={"connections": 1})})
    assert CrawlConfig(source=source).identity() == CrawlConfig(source=patient).identity()


def test_nothing_left_to_fetch_says_so(source: CommonCrawlRecords, tmp_path: Path) -> None:
    (tmp_path / "annotations.toml").write_text('[[path]]\nhost = "nowhere.example"\nverdict = "accept"\n')
    with pytest.raises(MathQuarryError, match="no new page under the paths that .*annotations.toml accepts"):
        build_crawl(CrawlConfig(source=source), tmp_path, Workspace.at(tmp_path / "crawl"))
