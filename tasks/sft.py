"""Task `sft`: supervised fine-tuning on the curated solutions (paper section 3.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.train.config import SFTConfig
from mathquarry.tasks.stage import StageResult, produce

VERSION = 4


@task(name="sft")
def sft(store: str, config: SFTConfig, base: str, examples: str, sampled: str | None = None, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: the instruct model, trained on `examples` and, if given, on `sampled` ones too."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.models.train.sft import finetune

        return finetune(config, inputs["base"] / "model", [inputs[role] for role in ("examples", "sampled") if role in inputs], workspace)

    return produce(
        store,
        "sft",
        VERSION,
        {"sft": config},
        {"base": base, "examples": examples, **({"sampled": sampled} if sampled else {})},
        work,
        mode=mode,
    )
