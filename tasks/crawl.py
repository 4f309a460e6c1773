"""Task `crawl`: the WARC files that mining reads: generated, local, or fetched."""

from __future__ import annotations

from prefect import task

from mathquarry.data.crawl.config import CrawlConfig
from mathquarry.data.store.store import BuildMode
from mathquarry.tasks.stage import StageResult, produce

VERSION = 1


@task(name="crawl")
def crawl(store: str, config: CrawlConfig, problems: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `warcs.json`, fetched or generated WARC files, and `truth.jsonl` for the mini-web."""
    from mathquarry.data.crawl.build import build_crawl, outside_sources

    return produce(
        store,
        "crawl",
        VERSION,
        {"crawl": config},
        {"problems": problems},
        lambda workspace, inputs: build_crawl(config, inputs["problems"], workspace),
        sources=outside_sources(config),
        mode=mode,
    )
