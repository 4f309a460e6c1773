import gzip
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mathquarry.data.crawl.build import build_crawl, outside_sources
from mathquarry.data.crawl.commoncrawl import choose, list_url, read_paths
from mathquarry.data.crawl.config import CommonCrawl, CrawlConfig
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.receiver import NotThere, RemoteError
from mathquarry.data.files import file_digest
from mathquarry.data.store.workspace import Workspace
from tests.data.crawl.conftest import MakeClient
from tests.data.crawl.http_server import FileServer, Handler, ends_after, status, times

CRAWL = "CC-MAIN-2026-10"
LIST = f"/crawl-data/{CRAWL}/warc.paths.gz"
PATHS = [f"crawl-data/{CRAWL}/segments/1/warc/{CRAWL}-{number:05d}.warc.gz" for number in range(20)]


def listed(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


@pytest.fixture(autouse=True)
def _snapshot(server: FileServer) -> None:
    server.files[LIST] = listed(*PATHS)
    server.files[LIST.replace("warc.paths", "wet.paths")] = listed("crawl-data/a.wet.gz")
    server.files["/crawl-data/a.wet.gz"] = b"wet"
    for path in PATHS:
        server.files[f"/{path}"] = path.encode() * 1000


def source(server: FileServer, **settings: object) -> CommonCrawl:
    patient = {"attempts": 3, "first_wait_seconds": 0.01, "cooldown_seconds": 0.01}
    return CommonCrawl.model_validate({"crawl": CRAWL, "base_url": server.url + "/", "client": patient} | settings)


def test_the_list_of_paths_is_read_with_its_digest(server: FileServer, make_client: MakeClient, tmp_path: Path) -> None:
    found = read_paths(make_client(), list_url(server.url, CRAWL, "warc"))
    (tmp_path / "list").write_bytes(server.files[LIST])
    assert found.paths == PATHS
    assert (found.sha256, found.size) == (file_digest(tmp_path / "list"), len(server.files[LIST]))


def test_a_list_from_a_server_that_sends_no_length_is_read(server: FileServer, make_client: MakeClient) -> None:
    def sends_until_it_closes(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(handler.content or b"")
        handler.close_connection = True

    def sends_chunks(handler: Handler) -> None:
        content = handler.content or b""
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))

    for answer in (sends_until_it_closes, sends_chunks):
        url = list_url(server.url, CRAWL, "warc")
        server.scripts[urlsplit(url).path] = [answer]
        assert read_paths(make_client(), url).paths == PATHS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip at all", "is damaged"),
        (listed(*PATHS)[:-20], "is damaged"),
        (gzip.compress(b"\xff\xfe\xfd", mtime=0), "is damaged"),
        (listed(PATHS[0], "../../etc/passwd"), "line 2: '../../etc/passwd' is not a relative path"),
        (listed("/etc/passwd"), "is not a relative path"),
        (listed("a/.hidden"), "is not a relative path"),
        (listed("https://elsewhere.example/a"), "is not a relative path"),
        (listed("a b"), "is not a relative path"),
        (listed("a//b"), "is not a relative path"),
        (listed(), "lists no files"),
        (listed("a", "b", "a"), "lists a file twice"),
        (b"", "lists no files|is damaged"),
    ],
)
def test_a_damaged_or_hostile_list_is_named(content: bytes, message: str, server: FileServer, make_client: MakeClient) -> None:
    server.files[LIST] = content
    with pytest.raises(MathQuarryError, match=message) as error:
        read_paths(make_client(), f"{server.url}{LIST}")
    assert LIST in str(error.value)


def test_a_list_that_is_a_gzip_bomb_is_refused(server: FileServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.data.crawl.commoncrawl._LARGEST_UNPACKED", 1 << 20)
    server.files[LIST] = gzip.compress(b"a" * (2 << 20))
    with pytest.raises(MathQuarryError, match="unpacks to more than 1 MiB"):
        read_paths(make_client(), f"{server.url}{LIST}")


def test_a_crawl_that_does_not_exist_is_named(server: FileServer, make_client: MakeClient) -> None:
    with pytest.raises(NotThere, match="CC-MAIN-1999-99"):
        read_paths(make_client(), list_url(server.url, "CC-MAIN-1999-99", "warc"))


def test_a_choice_is_all_a_slice_or_a_sample_that_the_seed_decides(server: FileServer) -> None:
    assert choose(PATHS, source(server), 0) == PATHS
    assert choose(PATHS, source(server, begin=3, end=5), 0) == PATHS[3:5]
    sample = choose(PATHS, source(server, sample=5), 0)
    assert len(sample) == 5
    assert sample == sorted(sample)
    assert sample == choose(PATHS, source(server, sample=5), 0)
    assert sample != choose(PATHS, source(server, sample=5), 1)
    assert set(choose(PATHS, source(server, begin=10, sample=10), 0)) == set(PATHS[10:])


@pytest.mark.parametrize("settings", [{"begin": 20}, {"begin": 5, "end": 5}, {"sample": 21}])
def test_an_impossible_choice_is_named(settings: dict[str, int], server: FileServer) -> None:
    with pytest.raises(MathQuarryError, match="empty slice|files to draw from"):
        choose(PATHS, source(server, **settings), 0)


def test_a_crawl_artifact_holds_the_chosen_files_under_their_common_crawl_paths(server: FileServer, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    config = CrawlConfig(source=source(server, sample=4), seed=3)
    summary = build_crawl(config, tmp_path / "no-problems", workspace)
    chosen = choose(PATHS, source(server, sample=4), 3)
    listing = json.loads((workspace.out / "warcs.json").read_text())
    assert listing["list"] == {"url": f"{server.url}{LIST}", "sha256": outside_sources(config)[0].sha256, "files": 20}
    assert listing["files"] == [
        {"path": path, "sha256": file_digest(workspace.out / path), "bytes": len(server.files[f"/{path}"])} for path in chosen
    ]
    assert [(workspace.out / path).read_bytes() for path in chosen] == [server.files[f"/{path}"] for path in chosen]
    assert summary == {"files": 4, "bytes": sum(file["bytes"] for file in listing["files"])}


def test_wet_files_have_their_own_list(server: FileServer, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    build_crawl(CrawlConfig(source=source(server, files="wet")), tmp_path, workspace)
    assert (workspace.out / "crawl-data" / "a.wet.gz").read_bytes() == b"wet"


def test_files_that_are_streamed_are_listed_by_url_and_not_fetched(server: FileServer, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    build_crawl(CrawlConfig(source=source(server, fetch="stream", end=2)), tmp_path, workspace)
    listing = json.loads((workspace.out / "warcs.json").read_text())
    assert listing["files"] == [{"name": path, "path": f"{server.url}/{path}", "sha256": "", "bytes": 0} for path in PATHS[:2]]
    assert {path for _, path, _ in server.requests} == {LIST}


def test_a_file_that_cannot_be_had_costs_nothing_of_the_others_when_run_again(server: FileServer, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    config = CrawlConfig(source=source(server, client={"connections": 1, "attempts": 2, "first_wait_seconds": 0.01}, end=4))
    server.scripts[f"/{PATHS[2]}"] = [ends_after(70_000), *times(2, status(503))]
    with pytest.raises(RemoteError, match=PATHS[2]):
        build_crawl(config, tmp_path, workspace)
    assert not (workspace.out / "warcs.json").exists()
    build_crawl(config, tmp_path, workspace)
    assert {server.sent[f"/{path}"] for path in PATHS[:4]} == {len(server.files[f"/{PATHS[0]}"])}


def test_another_list_is_another_crawl_and_other_manners_are_not(server: FileServer) -> None:
    config = CrawlConfig(source=source(server))
    (before,) = outside_sources(config)
    server.files[LIST] = listed(*PATHS[:-1])
    (after,) = outside_sources(config)
    assert (before.path, before.sha256 == after.sha256) == (after.path, False)
    assert config.identity() == CrawlConfig(source=source(server, client={"connections": 1})).identity()
    assert config.identity() != CrawlConfig(source=source(server, sample=2)).identity()
