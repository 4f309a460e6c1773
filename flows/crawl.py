"""Flow `crawl`: the WARC files that mining reads."""

from __future__ import annotations

import tasks.crawl
from data.config import CrawlConfig
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from tasks.stage import Produced


@stage_flow("crawl", tasks.crawl.crawl)
def crawl_flow(store: str, config: CrawlConfig, problems: ArtifactRef, mode: BuildMode = "reuse") -> Produced:
    """Generate the mini-web, or register WARC files that are already here.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        problems: `problems` artifact; the mini-web plants its held-out questions.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.crawl.crawl(store, config, problems, mode)
