"""Flow `sft`: supervised fine-tuning."""

from __future__ import annotations

import mathquarry.tasks.sft
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.models.train.config import SFTConfig
from mathquarry.tasks.stage import StageResult


@stage_flow("sft", mathquarry.tasks.sft.sft)
def sft_flow(
    store: str,
    config: SFTConfig,
    base: ArtifactRef,
    examples: ArtifactRef,
    sampled: ArtifactRef | None = None,
    mode: BuildMode = "reuse",
) -> StageResult:
    """Fine-tune a `pretrain` artifact on a `curate` artifact, and on a `rejection` artifact if there is one.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        base: `pretrain` artifact.
        examples: `curate` artifact.
        sampled: `rejection` artifact with further examples.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.sft.sft(store, config, base, examples, sampled, mode)
