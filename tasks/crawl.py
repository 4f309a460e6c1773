"""Task `crawl`: the WARC files that mining reads, generated or already here."""

from __future__ import annotations

from prefect import task

from data.config import CrawlConfig, CrawlFiles
from data.store import BuildMode
from tasks.stage import Produced, produce

VERSION = 1


@task(name="crawl")
def crawl(store: str, config: CrawlConfig, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `warcs.json`; for the generated mini-web also the WARC files and `truth.jsonl`."""
    from data.crawl.build import build_crawl

    return produce(
        store,
        "crawl",
        VERSION,
        {"crawl": config},
        {"problems": problems},
        lambda space, inputs: build_crawl(config, inputs["problems"], space),
        sources=config.source.warcs if isinstance(config.source, CrawlFiles) else [],
        mode=mode,
    )
