"""Flow `sft`: supervised fine-tuning."""

from __future__ import annotations

import tasks.sft
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from models.config import SFTConfig
from tasks.stage import Produced


@stage_flow("sft", tasks.sft.sft)
def sft_flow(
    store: str,
    config: SFTConfig,
    base: ArtifactRef,
    examples: ArtifactRef,
    sampled: ArtifactRef | None = None,
    mode: BuildMode = "reuse",
) -> Produced:
    """Fine-tune a `pretrain` artifact on a `curate` artifact, and on a `rejection` artifact where there is one.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        base: `pretrain` artifact.
        examples: `curate` artifact.
        sampled: `rejection` artifact with further examples.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.sft.sft(store, config, base, examples, sampled, mode)
