import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mathquarry
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.download import download
from mathquarry.data.fetch.receiver import RemoteError
from tests.data.crawl.conftest import MakeClient
from tests.data.crawl.http_server import (
    FileServer,
    Handler,
    another_etag,
    ends_after,
    ignores_range,
    names_no_version,
    stalls_after,
    status,
    times,
)

BODY = os.urandom(3_000_000)
LIMIT = 10_000_000


@pytest.fixture(autouse=True)
def _file(server: FileServer) -> None:
    server.files["/a.warc.gz"] = BODY


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "warc" / "a.warc.gz"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_leaves_nothing_beside_it(server: FileServer, make_client: MakeClient, target: Path) -> None:
    download(make_client(), f"{server.url}/a.warc.gz", target, LIMIT)
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["a.warc.gz"]
    download(make_client(), f"{server.url}/a.warc.gz", target, LIMIT)
    assert len(server.requests) == 1


def test_a_failed_download_keeps_what_came_and_the_next_one_finishes_it(server: FileServer, make_client: MakeClient, target: Path) -> None:
    server.scripts["/a.warc.gz"] = [ends_after(1_000_000), *times(5, status(503))]
    with pytest.raises(RemoteError, match="503"):
        download(make_client(attempts=3), f"{server.url}/a.warc.gz", target, LIMIT)
    assert names(target.parent) == ["a.warc.gz.part", "a.warc.gz.part.json"]
    server.scripts.clear()
    download(make_client(), f"{server.url}/a.warc.gz", target, LIMIT)
    assert target.read_bytes() == BODY
    assert server.sent["/a.warc.gz"] == len(BODY)
    assert names(target.parent) == ["a.warc.gz"]


@pytest.mark.parametrize("then", [another_etag, ignores_range, names_no_version], ids=["changed", "no-ranges", "no-version"])
def test_when_the_rest_cannot_be_trusted_the_file_is_fetched_anew(then, server: FileServer, make_client: MakeClient, target: Path) -> None:  # type: ignore[no-untyped-def]
    server.scripts["/a.warc.gz"] = [ends_after(1_000_000), *times(2, status(503))]
    with pytest.raises(RemoteError):
        download(make_client(attempts=2), f"{server.url}/a.warc.gz", target, LIMIT)
    server.files["/a.warc.gz"] = BODY[::-1]
    server.scripts["/a.warc.gz"] = [then]
    download(make_client(), f"{server.url}/a.warc.gz", target, LIMIT)
    assert target.read_bytes() == BODY[::-1]


def test_another_urls_leftovers_are_not_used(server: FileServer, make_client: MakeClient, target: Path) -> None:
    server.scripts["/a.warc.gz"] = [ends_after(1_000_000), *times(2, status(503))]
    with pytest.raises(RemoteError):
        download(make_client(attempts=2), f"{server.url}/a.warc.gz", target, LIMIT)
    server.files["/b.warc.gz"] = b"b" * 2_000_000
    download(make_client(), f"{server.url}/b.warc.gz", target, LIMIT)
    assert target.read_bytes() == b"b" * 2_000_000


def test_a_file_over_the_limit_is_refused_whether_or_not_the_server_says_its_size(
    server: FileServer, make_client: MakeClient, target: Path
) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.send(bytes(1 << 20))

    with pytest.raises(RemoteError, match="3,000,000 bytes, more than the limit of 1,000,000"):
        download(make_client(), f"{server.url}/a.warc.gz", target, 1_000_000)
    server.scripts["/a.warc.gz"] = [endless]
    with pytest.raises(RemoteError, match="more than the limit of 10,000,000 bytes"):
        download(make_client(), f"{server.url}/a.warc.gz", target, LIMIT)
    assert not target.exists()
    assert (target.parent / "a.warc.gz.part").stat().st_size <= LIMIT


def test_a_full_disk_is_reported(server: FileServer, make_client: MakeClient, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.part").symlink_to("/dev/full")
    with pytest.raises(MathQuarryError, match="No space left on device"):
        download(make_client(), f"{server.url}/a.warc.gz", tmp_path / "full" / "a", LIMIT)


RUN = """
import sys
from pathlib import Path
from mathquarry.data.fetch.config import ClientConfig
from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.download import download

folder = Path(sys.argv[2])
download(PoliteClient(ClientConfig(), slots=folder / "slots"), sys.argv[1], folder / "a.warc.gz", 10_000_000)
"""


def test_a_download_that_is_killed_goes_on_without_fetching_again_what_it_had(server: FileServer, tmp_path: Path) -> None:
    server.scripts["/a.warc.gz"] = [stalls_after(2_000_000)]
    command = [sys.executable, "-c", RUN, f"{server.url}/a.warc.gz", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(mathquarry.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment)
    partial = tmp_path / "a.warc.gz.part"
    while not partial.exists() or partial.stat().st_size < 1_000_000:
        assert process.poll() is None, "the download ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = partial.stat().st_size
    assert not (tmp_path / "a.warc.gz").exists()
    before = server.sent["/a.warc.gz"]
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "a.warc.gz").read_bytes() == BODY
    assert server.sent["/a.warc.gz"] - before == len(BODY) - had
    assert server.requests[-1] == ("GET", "/a.warc.gz", f"bytes={had}-")
