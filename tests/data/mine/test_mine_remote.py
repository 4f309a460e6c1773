"""Mining a snapshot that lies behind HTTP."""

import gzip
from pathlib import Path

from data.config import CommonCrawl, CrawlConfig, MineConfig
from data.crawl.build import build_crawl
from data.files import file_digest
from data.mine.pool import WorkerPool
from data.mine.shards import capture_crawl, warc_files
from data.workspace import Progress, Workspace
from tests.data.crawl.http_server import ends_after, reset_after, running_server, status

CRAWL = "CC-MAIN-2026-10"


def test_a_streamed_snapshot_gives_the_bytes_of_a_downloaded_one(crawl: Path, mine_config: MineConfig, tmp_path: Path) -> None:
    local = sorted((crawl / "warc").glob("*.warc.gz"))
    names = [f"crawl-data/{CRAWL}/segments/1/warc/{path.name}" for path in local]
    with running_server() as server, WorkerPool(mine_config.workers, Progress()) as pool:
        server.files[f"/crawl-data/{CRAWL}/warc.paths.gz"] = gzip.compress("".join(f"{name}\n" for name in names).encode())
        server.files |= {f"/{name}": path.read_bytes() for name, path in zip(names, local, strict=True)}
        shards = []
        for fetch in ("download", "stream"):
            space = Workspace.at(tmp_path / fetch)
            client = {"first_wait_seconds": 0.01}
            source = CommonCrawl.model_validate({"crawl": CRAWL, "base_url": server.url, "fetch": fetch, "client": client})
            server.scripts[f"/{names[0]}"] = [ends_after(500), reset_after(500), status(503)] if fetch == "download" else []
            build_crawl(CrawlConfig(source=source), tmp_path, space)
            files = warc_files(space.out)
            assert [file.name for file in files] == names
            shards.append(capture_crawl(files, space.scratch / "captures", mine_config, pool))
    assert [file_digest(path) for path in shards[0]] == [file_digest(path) for path in shards[1]]
