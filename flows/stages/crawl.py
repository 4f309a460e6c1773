"""Flow `crawl`: the WARC files that mining reads."""

from __future__ import annotations

import mathquarry.tasks.crawl
from mathquarry.data.crawl.config import CrawlConfig
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.tasks.stage import StageResult


@stage_flow("crawl", mathquarry.tasks.crawl.crawl)
def crawl_flow(store: str, config: CrawlConfig, problems: ArtifactRef, mode: BuildMode = "reuse") -> StageResult:
    """Generate the mini-web, register existing WARC files, or fetch them from Common Crawl.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        problems: `problems` artifact; the mini-web plants its held-out questions.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.crawl.crawl(store, config, problems, mode)
