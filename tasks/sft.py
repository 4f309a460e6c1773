"""Task `sft`: supervised fine-tuning on the curated solutions (paper section 3.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.store import BuildMode
from data.workspace import Workspace
from models.config import SFTConfig
from tasks.stage import Produced, produce

VERSION = 3


@task(name="sft")
def sft(store: str, config: SFTConfig, base: str, examples: str, sampled: str | None = None, mode: BuildMode = "reuse") -> Produced:
    """Artifact: the instruct model, trained on `examples` and, where they are given, on `sampled` ones too."""

    def work(space: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from models.sft import finetune

        return finetune(config, inputs["base"] / "model", [inputs[role] for role in ("examples", "sampled") if role in inputs], space)

    return produce(
        store,
        "sft",
        VERSION,
        {"sft": config},
        {"base": base, "examples": examples, **({"sampled": sampled} if sampled else {})},
        work,
        mode=mode,
    )
