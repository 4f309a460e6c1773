"""Task `evaluate`: greedy accuracy, Pass@K and Maj@K on held-out questions (paper Figure 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.store import BuildMode
from data.workspace import Workspace
from models.config import EvaluateConfig
from tasks.stage import Produced, produce

VERSION = 5


@task(name="evaluate")
def evaluate(store: str, config: EvaluateConfig, policy: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `scores.json` and every answer with its verdict."""

    def work(space: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from models.evaluate import evaluate as score

        return score(config, inputs["policy"] / "model", inputs["problems"], space)

    return produce(
        store,
        "evaluate",
        VERSION,
        {"evaluate": config},
        {"policy": policy, "problems": problems},
        work,
        mode=mode,
    )
