"""Task `rejection`: rejection sampling of further solutions from a policy (paper section 3.1, ToRA)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.store import BuildMode
from data.workspace import Workspace
from models.config import RejectionConfig
from tasks.stage import Produced, produce

VERSION = 2


@task(name="rejection")
def rejection(store: str, config: RejectionConfig, policy: str, problems: str, examples: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `examples.jsonl` of the kept solutions, and every sampled one with why it was kept or dropped."""

    def work(space: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from models.rejection import sample_solutions

        return sample_solutions(config, inputs["policy"] / "model", inputs["problems"], inputs["examples"], space)

    return produce(
        store,
        "rejection",
        VERSION,
        {"rejection": config},
        {"policy": policy, "problems": problems, "examples": examples},
        work,
        mode=mode,
    )
