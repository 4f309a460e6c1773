"""Task `sft`: supervised fine-tuning on the curated solutions (paper section 3.1)."""

from __future__ import annotations

from prefect import task

from data.store import BuildMode
from models.config import SFTConfig
from tasks.stage import Produced, produce

VERSION = 3


@task(name="sft")
def sft(store: str, config: SFTConfig, base: str, examples: str, sampled: str | None = None, mode: BuildMode = "reuse") -> Produced:
    """Artifact: the instruct model, trained on `examples` and, where they are given, on `sampled` ones too."""
    from models.sft import finetune

    return produce(
        store,
        "sft",
        VERSION,
        {"sft": config},
        {"base": base, "examples": examples, **({"sampled": sampled} if sampled else {})},
        lambda space, inputs: finetune(
            config, inputs["base"] / "model", [inputs[role] for role in ("examples", "sampled") if role in inputs], space
        ),
        mode=mode,
    )
