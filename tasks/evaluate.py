"""Task `evaluate`: greedy accuracy, Pass@K and Maj@K on held-out questions (paper Figure 7)."""

from __future__ import annotations

from prefect import task

from data.store import BuildMode
from models.config import EvaluateConfig
from tasks.stage import Produced, produce

VERSION = 4


@task(name="evaluate")
def evaluate(store: str, config: EvaluateConfig, policy: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `scores.json` and every answer with its verdict."""
    from models.evaluate import evaluate as score

    return produce(
        store,
        "evaluate",
        VERSION,
        {"evaluate": config},
        {"policy": policy, "problems": problems},
        lambda space, inputs: score(config, inputs["policy"] / "model", inputs["problems"], space),
        mode=mode,
    )
