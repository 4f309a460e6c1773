"""WARC files that no honest crawler writes: each is read, or refused with a reason, in bounded memory."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mathquarry
from mathquarry.data.crawl.warc import Dropped, Page, read_pages
from mathquarry.data.extract.html import extract
from mathquarry.data.fetch.remote import BLOCK_BYTES
from tests.data.crawl.hostile_records import EXPECTED, GIB, HTTP, WRITERS, A, header
from tests.data.crawl.http_server import FileServer, Handler

LIMIT = 5_000_000
BOUND = 25 * LIMIT + (16 << 20)
"""Most memory that reading takes, whatever the content of the files (docs/mining.md)."""

READ_ALL = """
import json, resource, sys
from mathquarry.data.crawl.warc import Dropped, read_pages

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

limit, ordinary, *names = int(sys.argv[1]), *sys.argv[2:]
list(read_pages(ordinary, limit))
before, found = peak(), {}
for name in names:
    found[name] = [item.reason if isinstance(item, Dropped) else "page" for item in read_pages(name, limit)]
print(json.dumps({"found": found, "grown": peak() - before}))
"""


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of one process for all files, and how much its memory grew."""
    folder = tmp_path_factory.mktemp("hostile")
    ordinary = folder / "ordinary"
    ordinary.write_bytes(A)
    for name, write in WRITERS.items():
        write(folder / name)
    command = [sys.executable, "-c", READ_ALL, str(LIMIT), str(ordinary), *(str(folder / name) for name in WRITERS)]
    environment = os.environ | {"PYTHONPATH": str(Path(mathquarry.__file__).parents[1])}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    for name in WRITERS:
        (folder / name).unlink()
    result = json.loads(done.stdout)
    return result | {"found": {Path(name).name: reasons for name, reasons in result["found"].items()}}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_hostile_file_is_read_or_refused_with_a_reason(name: str, reading: dict[str, Any]) -> None:
    assert reading["found"][name] == EXPECTED[name]


@pytest.mark.slow
def test_memory_stays_within_the_stated_bound(reading: dict[str, Any]) -> None:
    assert reading["grown"] < BOUND


class Endless:
    """A file of 50 GB that is generated while it is read."""

    def __init__(self, start: bytes, size: int) -> None:
        self.start, self.size = start, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        first, last, _ = part.indices(self.size)
        return self.start[first:last].ljust(last - first, b"x")


def test_a_remote_file_that_never_ends_is_given_up_after_a_block(server: FileServer) -> None:
    endless = Endless(A + header("endless", 50 * GIB) + HTTP % b"", 50 * GIB)

    def part(handler: Handler) -> None:
        asked = handler.asked()
        version = {"ETag": '"endless"'}
        if asked is None:
            return handler.begin(200, len(endless), **version)
        start, end = asked
        handler.begin(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(endless)}", **version)
        return handler.send(endless[start:end])

    server.files["/endless.warc"] = endless  # type: ignore[assignment]
    server.etags["/endless.warc"] = '"endless"'
    server.scripts["/endless.warc"] = [part] * 10  # type: ignore[list-item]
    found = list(read_pages(f"{server.url}/endless.warc", LIMIT))
    assert [item.reason if isinstance(item, Dropped) else "page" for item in found] == ["page", "broken-warc"]
    assert server.sent["/endless.warc"] <= 2 * BLOCK_BYTES


def test_a_pipe_that_never_ends_is_given_up(tmp_path: Path) -> None:
    pipe = tmp_path / "endless.warc"
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(A + header("endless", 50 * GIB) + HTTP % b"")
            try:
                while True:
                    file.write(bytes(1 << 16))
            except BrokenPipeError:
                pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    found = list(read_pages(str(pipe), LIMIT))
    feeder.join()
    assert [item.reason if isinstance(item, Dropped) else "page" for item in found] == ["page", "broken-warc"]


def test_the_text_of_a_wet_file_comes_through_extraction_as_it_is(shared_data: Path) -> None:
    (page,) = read_pages(str(shared_data / "web" / "warc-cases" / "whirlwind.warc.wet.gz"), LIMIT)
    assert isinstance(page, Page)
    assert page.content_type == "text/plain"
    found = extract(page.html)
    assert found.title == "Escopete - Biquipedia, a enciclopedia libre"
    lines = [line for line in found.text.splitlines() if line.strip()]
    assert len(lines) == 182
    assert 'Obteniu de "https://an.wikipedia.org/w/index.php?title=Escopete&oldid=2049929"' in lines
