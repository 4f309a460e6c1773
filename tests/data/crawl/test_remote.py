import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from mathquarry.data.crawl.warc import Page, read_pages
from mathquarry.data.fetch import remote
from mathquarry.data.fetch.client import client_for
from mathquarry.data.fetch.config import ClientConfig
from mathquarry.data.fetch.receiver import RemoteChanged, RemoteError
from mathquarry.data.fetch.remote import PoliteFileSystem, open_binary, version_digest
from mathquarry.data.files import file_digest
from mathquarry.data.store.sources import identify
from tests.data.crawl.conftest import MakeClient
from tests.data.crawl.hostile_records import page
from tests.data.crawl.http_server import FileServer, another_etag, ends_after, ignores_range, names_no_version, status, times

BODY = bytes(range(256)) * 1000
BLOCK = 10_000


@pytest.fixture
def files(make_client: MakeClient) -> PoliteFileSystem:
    return PoliteFileSystem(make_client(attempts=3), BLOCK)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small blocks and short waits where the defaults are used."""
    monkeypatch.setattr(remote, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(remote, "ClientConfig", lambda: ClientConfig(attempts=2, first_wait_seconds=0.01))
    yield
    client_for.cache_clear()


def test_a_file_is_read_in_order_and_at_any_place(server: FileServer, files: PoliteFileSystem) -> None:
    server.files["/a"] = BODY
    with files.open(f"{server.url}/a") as file:
        assert b"".join(iter(lambda: file.read(777), b"")) == BODY
        file.seek(-300, 2)
        assert file.read() == BODY[-300:]
        file.seek(1000)
        assert file.read(5) == BODY[1000:1005]
        file.seek(-5, 1)
        buffer = bytearray(3)
        assert (file.readinto(buffer), buffer, file.tell()) == (3, BODY[1000:1003], 1003)


def test_after_a_seek_little_is_fetched_and_in_order_more_and_more(
    server: FileServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_BYTES", 1000)
    server.files["/a"] = BODY
    with PoliteFileSystem(make_client(), 4000).open(f"{server.url}/a") as file:
        file.seek(50_000)
        for _ in range(8):
            file.read(1000)
        file.seek(100)
        file.read(1000)
    asked = [part for method, _, part in server.requests if method == "GET"]
    assert asked == ["bytes=50000-50999", "bytes=51000-52999", "bytes=53000-56999", "bytes=57000-60999", "bytes=100-1099"]


def test_in_order_every_byte_is_fetched_once(server: FileServer, files: PoliteFileSystem) -> None:
    server.files["/a"] = BODY
    server.scripts["/a"] = [lambda handler: handler.whole(), status(503), ends_after(5000)]
    with files.open(f"{server.url}/a") as file:
        while file.read(777):
            pass
    assert server.sent["/a"] == len(BODY)


def test_a_file_that_changes_while_it_is_read_is_an_error(server: FileServer, files: PoliteFileSystem) -> None:
    server.files["/a"] = BODY
    with files.open(f"{server.url}/a") as file:
        file.read(10)
        server.files["/a"] = BODY[::-1]
        with pytest.raises(RemoteChanged, match=f"{server.url}/a changed"):
            file.read()


def test_a_server_without_ranges_or_sizes_is_an_error_that_says_so(server: FileServer, files: PoliteFileSystem) -> None:
    def unsized(handler) -> None:  # type: ignore[no-untyped-def]
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()

    server.files |= {"/a": BODY, "/b": BODY}
    server.scripts["/a"] = times(50, ignores_range)
    with files.open(f"{server.url}/a") as file:
        file.read(10)
        with pytest.raises(RemoteError, match="sends only whole files"):
            file.read()
    server.scripts["/b"] = [unsized]
    with pytest.raises(RemoteError, match="does not say how large"):
        files.open(f"{server.url}/b")


def warc() -> bytes:
    return b"".join(gzip.compress(page(str(number), f"<html>{number}</html>".encode() + bytes(3000))) for number in range(400))


@pytest.mark.usefixtures("_quick")
def test_a_remote_warc_gives_the_pages_of_the_local_one(server: FileServer, tmp_path: Path) -> None:
    server.files["/a.warc.gz"] = warc()
    (tmp_path / "a.warc.gz").write_bytes(warc())
    local = list(read_pages(str(tmp_path / "a.warc.gz"), 100_000))
    assert [type(item) for item in local] == [Page] * 400
    assert list(read_pages(f"{server.url}/a.warc.gz", 100_000)) == local


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("trouble", [times(9, status(503)), [another_etag] * 9], ids=["down", "changed"])
def test_trouble_with_the_network_is_no_damage_of_the_file(trouble: list, server: FileServer) -> None:
    server.files["/a.warc.gz"] = warc()
    pages = read_pages(f"{server.url}/a.warc.gz", 100_000)
    assert isinstance(next(pages), Page)
    server.scripts["/a.warc.gz"] = trouble
    with pytest.raises(RemoteError, match=f"{server.url}/a.warc.gz"):
        list(pages)


def test_local_files_open_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    for name in (str(tmp_path / "a"), (tmp_path / "a").as_uri()):
        with open_binary(name) as file:
            assert file.read() == b"a"


def test_a_remote_file_is_known_by_what_the_server_says_of_it_or_else_by_its_bytes(
    server: FileServer, make_client: MakeClient, tmp_path: Path
) -> None:
    server.files["/a"] = BODY
    (tmp_path / "a").write_bytes(BODY)
    (before,) = identify(f"{server.url}/a")
    assert (before.path, before.bytes, server.sent["/a"]) == (f"{server.url}/a", len(BODY), 0)
    assert identify(f"{server.url}/a") == [before]
    server.files["/a"] = BODY[::-1]
    assert identify(f"{server.url}/a") != [before]
    server.files["/a"] = BODY
    server.scripts["/a"] = times(3, names_no_version)
    assert version_digest(make_client(), f"{server.url}/a") == (file_digest(tmp_path / "a"), len(BODY))
