"""Task `curate`: chain-of-thought, program-of-thought and tool-integrated solutions (paper section 3.1)."""

from __future__ import annotations

from prefect import task

from data.config import CurateConfig
from data.store import BuildMode
from tasks.stage import Produced, produce

VERSION = 4


@task(name="curate")
def curate(store: str, config: CurateConfig, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `examples.jsonl`, and `dropped.jsonl` with a reason for each problem left out."""
    from data.solutions.curate import curate as make_examples

    return produce(
        store,
        "curate",
        VERSION,
        {"curate": config},
        {"problems": problems},
        lambda space, inputs: make_examples(config, inputs["problems"], space),
        mode=mode,
    )
