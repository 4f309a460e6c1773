"""Mining a snapshot over HTTP."""

import gzip
from pathlib import Path

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CommonCrawl, CrawlConfig
from mathquarry.data.files import file_digest
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import capture_crawl, warc_files
from mathquarry.data.store.workspace import Progress, Workspace
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
            workspace = Workspace.at(tmp_path / fetch)
            client = {"first_wait_seconds": 0.01}
            source = CommonCrawl.model_validate({"crawl": CRAWL, "base_url": server.url, "fetch": fetch, "client": client})
            server.scripts[f"/{names[0]}"] = [ends_after(500), reset_after(500), status(503)] if fetch == "download" else []
            build_crawl(CrawlConfig(source=source), tmp_path, workspace)
            files = warc_files(workspace.out)
            assert [file.name for file in files] == names
            shards.append(capture_crawl(files, workspace.scratch / "captures", mine_config, pool))
    assert [file_digest(path) for path in shards[0]] == [file_digest(path) for path in shards[1]]
