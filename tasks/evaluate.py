"""Task `evaluate`: greedy accuracy, Pass@K and Maj@K on held-out questions (paper Figure 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate.config import EvaluateConfig
from mathquarry.tasks.stage import StageResult, produce

VERSION = 6


@task(name="evaluate")
def evaluate(store: str, config: EvaluateConfig, policy: str, problems: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `scores.json` and every answer with its verdict."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.evaluate.evaluate import evaluate as score

        return score(config, inputs["policy"] / "model", inputs["problems"], workspace)

    return produce(
        store,
        "evaluate",
        VERSION,
        {"evaluate": config},
        {"policy": policy, "problems": problems},
        work,
        mode=mode,
    )
