"""Task `crawl`: the WARC files that mining reads, generated, already here, or fetched."""

from __future__ import annotations

from prefect import task

from data.config import CrawlConfig
from data.store import BuildMode
from tasks.stage import Produced, produce

VERSION = 1


@task(name="crawl")
def crawl(store: str, config: CrawlConfig, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `warcs.json`; fetched and generated WARC files too, and for the mini-web `truth.jsonl`."""
    from data.crawl.build import build_crawl, outside_sources

    return produce(
        store,
        "crawl",
        VERSION,
        {"crawl": config},
        {"problems": problems},
        lambda space, inputs: build_crawl(config, inputs["problems"], space),
        sources=outside_sources(config),
        mode=mode,
    )
