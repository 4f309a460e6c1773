"""Task `rejection`: rejection sampling of further solutions from a policy (paper section 3.1, ToRA)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate.config import RejectionConfig
from mathquarry.tasks.stage import StageResult, produce

VERSION = 3


@task(name="rejection")
def rejection(store: str, config: RejectionConfig, policy: str, problems: str, examples: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `examples.jsonl` of the kept solutions, and every sampled one with the reason for keeping or dropping it."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.evaluate.rejection import sample_solutions

        return sample_solutions(config, inputs["policy"] / "model", inputs["problems"], inputs["examples"], workspace)

    return produce(
        store,
        "rejection",
        VERSION,
        {"rejection": config},
        {"policy": policy, "problems": problems, "examples": examples},
        work,
        mode=mode,
    )
