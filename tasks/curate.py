"""Task `curate`: chain-of-thought, program-of-thought and tool-integrated solutions (paper section 3.1)."""

from __future__ import annotations

from prefect import task

from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.store.store import BuildMode
from mathquarry.tasks.stage import StageResult, produce

VERSION = 4


@task(name="curate")
def curate(store: str, config: CurateConfig, problems: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `examples.jsonl`, and `dropped.jsonl` with a reason for each problem left out."""
    from mathquarry.data.solutions.curate import curate as make_examples

    return produce(
        store,
        "curate",
        VERSION,
        {"curate": config},
        {"problems": problems},
        lambda workspace, inputs: make_examples(config, inputs["problems"], workspace),
        sources=[files.path for files in config.files],
        mode=mode,
    )
