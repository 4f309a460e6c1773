"""Flow `crawl`: the WARC files that mining reads."""

from __future__ import annotations

from prefect import flow

import tasks.crawl
from data.config import CrawlConfig
from data.store import BuildMode
from tasks.stage import Produced


@flow(name="crawl", flow_run_name="crawl")
def crawl_flow(store: str, config: CrawlConfig, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Generate the mini-web, or register WARC files that are already here."""
    return tasks.crawl.crawl(store, config, problems, mode)
