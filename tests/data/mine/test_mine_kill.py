"""After kill -9 in the middle of a WARC file, only that file is read again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mathquarry
from mathquarry.data.files import file_digest
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import WarcFile, capture_crawl
from mathquarry.data.store.workspace import Progress
from tests.data.mine.conftest import MATH_WORDS, html_page, prose, warc_record

RUN = """
import sys
from pathlib import Path
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import WarcFile, capture_crawl
from mathquarry.data.store.workspace import Progress

if __name__ == "__main__":
    config = MineConfig.model_validate_json(sys.argv[1])
    files = [WarcFile(Path(path).name, path) for path in sys.argv[3:]]
    with WorkerPool(config.workers, Progress()) as pool:
        capture_crawl(files, Path(sys.argv[2]), config, pool)
"""


def warc(first: int) -> bytes:
    """90 pages, which take much more than a pipe's buffer when packed."""
    pages = (html_page(f"Page {number}", prose(MATH_WORDS, number, 3000)) for number in range(first, first + 90))
    return b"".join(warc_record(f"http://h{first}.example/{number}", page) for number, page in enumerate(pages))


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_warc_costs_that_warc_alone(mine_config: MineConfig, tmp_path: Path) -> None:
    contents = [warc(1000 * number) for number in range(5)]
    paths = [tmp_path / f"{number}.warc.gz" for number in range(5)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    paths[2].unlink()
    os.mkfifo(paths[2])  # it gives as much as the test wants: the process waits in the middle of it
    command = [sys.executable, "-c", RUN, mine_config.model_dump_json(), str(tmp_path / "killed"), *map(str, paths)]
    environment = os.environ | {"PYTHONPATH": str(Path(mathquarry.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment)
    with paths[2].open("wb", buffering=0) as pipe:
        half = contents[2][: len(contents[2]) // 2]
        assert len(half) > 2 << 16
        pipe.write(half)  # returns when all but what the pipe holds was read
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = sorted((tmp_path / "killed").glob("0*.parquet"))
    assert [path.name for path in finished] == ["000000.parquet", "000001.parquet"]
    written = [path.stat().st_mtime_ns for path in finished]

    paths[2].unlink()
    paths[2].write_bytes(contents[2])
    subprocess.run(command, env=environment, check=True)
    assert [path.stat().st_mtime_ns for path in finished] == written
    files = [WarcFile(path.name, str(path)) for path in paths]
    with WorkerPool(mine_config.workers, Progress()) as pool:
        whole = capture_crawl(files, tmp_path / "whole", mine_config, pool)
    assert len(whole) == 5
    assert [file_digest(path) for path in whole] == [file_digest(tmp_path / "killed" / path.name) for path in whole]
