from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.crawl.annotations import Verdict
from mathquarry.data.crawl.index import COLUMNS, Index, open_index
from mathquarry.data.crawl.urls import parse_address
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.config import ClientConfig
from tests.data.crawl.http_server import FileServer, ends_after, running_server, status

URLS = [
    "https://maths.example.org/questions/1",
    "https://maths.example.org/questions/1?utm_source=x",
    "https://maths.example.org/questions/2",
    "https://maths.example.org/questions/meta/3",
    "https://maths.example.org/questions-old/4",
    "https://maths.example.org/jobs/5",
    "https://maths.example.org/questions",
    "https://flat.example.com/a",
    "http://flat.example.com/b",
    "https://other.example.net/questions/1",
]


def row(url: str, number: int, **fields: object) -> dict[str, object]:
    address = parse_address(url)
    assert address is not None
    return {
        "url": url,
        "url_host_registered_domain": address.domain,
        "url_host_name": address.host,
        "url_path": address.path,
        "fetch_status": 200,
        "content_mime_detected": "text/html",
        "content_digest": "D" * 32,
        "content_languages": "eng",
        "warc_filename": f"crawl-data/{number % 2}.warc.gz",
        "warc_record_offset": number * 1000,
        "warc_record_length": 900,
    } | fields


ROWS = [
    *(row(url, number) for number, url in enumerate(URLS)),
    row(URLS[2], 50),  # a second capture
    row("https://maths.example.org/questions/gone", 51, fetch_status=404),
    row("https://maths.example.org/questions/picture", 52, content_mime_detected="image/png"),
]


def captures(urls: list[str], hosts: list[str]) -> pa.Table:
    columns = {name: [value] * len(urls) for name, value in row("https://a.example/", 0).items()}
    return pa.table(columns | {"url": urls, "url_host_name": hosts})


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    pq.write_table(pa.Table.from_pylist(ROWS[:7]), tmp_path / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[7:]), tmp_path / "part-1.parquet")
    return [str(tmp_path / "part-*.parquet")]


@pytest.fixture
def client(tmp_path: Path) -> PoliteClient:
    return PoliteClient(ClientConfig(first_wait_seconds=0.01, attempts=3), slots=tmp_path / "slots")


@pytest.fixture
def index(files: list[str], client: PoliteClient, tmp_path: Path) -> Iterator[Index]:
    with open_index(files, client, tmp_path / "spill", memory_gib=0.5) as found:
        yield found


@pytest.mark.parametrize("first", ["old", "new"])
def test_parts_of_old_crawls_that_lack_columns_nobody_needs_are_read_in_any_order(first: str, client: PoliteClient, tmp_path: Path) -> None:
    old = [{name: value for name, value in entry.items() if name != "content_languages"} for entry in ROWS[:7]]
    parts = {"old": old, "new": ROWS[7:]}
    for name, rows in parts.items():
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    names = [str(tmp_path / f"{name}.parquet") for name in sorted(parts, key=lambda name: name != first)]
    with open_index(names, client, tmp_path / "spill") as found:
        assert found.host_pages(tmp_path / "hosts.parquet") == 3


def verdict(host: str, prefix: str, decision: str = "accept") -> Verdict:
    return Verdict.model_validate({"host": host, "prefix": prefix, "verdict": decision})


def test_pages_of_a_host_are_its_different_html_urls(index: Index, tmp_path: Path) -> None:
    assert index.host_pages(tmp_path / "hosts.parquet") == 3
    assert pq.read_table(tmp_path / "hosts.parquet").to_pylist() == [
        {"host": "flat.example.com", "domain": "example.com", "pages": 2},
        {"host": "maths.example.org", "domain": "example.org", "pages": 7},
        {"host": "other.example.net", "domain": "example.net", "pages": 1},
    ]


def test_pages_of_folders_are_counted_as_the_domain_table_counts_them(index: Index, tmp_path: Path) -> None:
    index.path_pages(tmp_path / "paths.parquet")
    expected: dict[tuple[str, str], set[str]] = {}
    for url in URLS:
        address = parse_address(url)
        assert address is not None
        folders = address.path.split("/")[1:-1][:2]
        for prefix in ["/" + "".join(f"{folder}/" for folder in folders[:depth]) for depth in range(len(folders) + 1)]:
            expected.setdefault((address.host, prefix), set()).add(url)
    found = {(entry["host"], entry["prefix"]): entry["pages"] for entry in pq.read_table(tmp_path / "paths.parquet").to_pylist()}
    assert found == {place: len(urls) for place, urls in expected.items()}


def test_uncollected_pages_under_accepted_paths_are_found_and_the_longest_prefix_decides(index: Index, tmp_path: Path) -> None:
    known = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"canonical_url": ["flat.example.com/a", "somewhere.else/x"]}), known)
    verdicts = [
        verdict("maths.example.org", "/questions"),
        verdict("maths.example.org", "/questions/meta", "reject"),
        verdict("flat.example.com", "/"),
    ]
    count = index.uncollected(verdicts, [str(known)], tmp_path / "wanted.parquet")
    rows = pq.read_table(tmp_path / "wanted.parquet").to_pylist()
    assert [entry["canonical_url"] for entry in rows] == [
        "maths.example.org/questions/1",
        "maths.example.org/questions/2",
        "maths.example.org/questions",
        "flat.example.com/b",
    ]
    assert count == len(rows)
    places = [(entry["warc_filename"], entry["warc_record_offset"]) for entry in rows]
    assert places == sorted(places)
    needed = {name: ROWS[2][name] for name in COLUMNS}
    assert rows[1] == needed | {"canonical_url": "maths.example.org/questions/2"}
    assert set(rows[0]) == {*COLUMNS, "canonical_url"}


def test_pages_that_mining_dropped_are_known_by_their_urls(index: Index, tmp_path: Path) -> None:
    dropped = tmp_path / "dropped.parquet"
    pq.write_table(pa.table({"url": ["http://flat.example.com:80/a/#top", "", "no url"], "reason": ["too-short"] * 3}), dropped)
    index.uncollected([verdict("flat.example.com", "/")], [str(dropped)], tmp_path / "wanted.parquet")
    assert pq.read_table(tmp_path / "wanted.parquet")["canonical_url"].to_pylist() == ["flat.example.com/b"]


def test_a_limit_takes_the_first_in_the_order_of_the_warc_files(index: Index, tmp_path: Path) -> None:
    assert index.uncollected([verdict("maths.example.org", "/")], [], tmp_path / "all.parquet") == 6
    assert index.uncollected([verdict("maths.example.org", "/")], [], tmp_path / "two.parquet", limit=2) == 2
    assert pq.read_table(tmp_path / "two.parquet") == pq.read_table(tmp_path / "all.parquet").slice(0, 2)


def test_nothing_accepted_and_unreadable_files_are_named(index: Index, files: list[str], client: PoliteClient, tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="accept no path"):
        index.uncollected([verdict("a.example", "/", "reject")], [], tmp_path / "wanted.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "texts.parquet")
    for name in ("absent.parquet", "bad.parquet", "texts.parquet"):
        with pytest.raises(MathQuarryError, match=name):
            index.uncollected([verdict("a.example", "/")], [str(tmp_path / name)], tmp_path / "wanted.parquet")
        with pytest.raises(MathQuarryError, match=name), open_index([str(tmp_path / name)], client, tmp_path / "spill"):
            pass
    assert not (tmp_path / "wanted.parquet").exists()


def test_an_index_behind_http_is_read_in_parts_through_a_bad_connection(client: PoliteClient, tmp_path: Path) -> None:
    hosts = [f"host{number % 50}.example.org" for number in range(60_000)]
    pq.write_table(
        captures([f"https://{host}/{number}" for number, host in enumerate(hosts)], hosts), tmp_path / "part.parquet", row_group_size=5000
    )
    with running_server() as server:
        served(server, tmp_path / "part.parquet")
        with open_index([f"{server.url}/part.parquet"], client, tmp_path / "spill") as index:
            assert index.host_pages(tmp_path / "hosts.parquet") == 50
        assert pq.read_table(tmp_path / "hosts.parquet")["pages"].to_pylist() == [1200] * 50
        assert server.sent["/part.parquet"] <= 2 * (tmp_path / "part.parquet").stat().st_size
        server.scripts["/part.parquet"] = [status(503)] * 20
        with (
            pytest.raises(MathQuarryError, match="part.parquet cannot be read"),
            open_index([f"{server.url}/part.parquet"], client, tmp_path / "spill"),
        ):
            pass


def served(server: FileServer, path: Path) -> None:
    server.files["/part.parquet"] = path.read_bytes()
    server.scripts["/part.parquet"] = [lambda handler: handler.whole(), status(503), ends_after(1000)]


def test_a_query_that_needs_more_than_its_memory_spills_and_gives_the_same(client: PoliteClient, tmp_path: Path) -> None:
    source = tmp_path / "large.parquet"
    hosts = [f"host-with-a-long-name-{number // 2}.example.org" for number in range(200_000)]
    pq.write_table(captures([f"https://{host}/{number}" for number, host in enumerate(hosts)], hosts), source)
    results = []
    for memory in (0.05, 2.0):
        with open_index([str(source)], client, tmp_path / "spill", memory_gib=memory) as index:
            index.host_pages(tmp_path / "hosts.parquet")
        results.append(pq.read_table(tmp_path / "hosts.parquet"))
    assert results[0] == results[1]
    assert results[0].num_rows == 100_000
