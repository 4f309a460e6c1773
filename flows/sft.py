"""Flow `sft`: supervised fine-tuning."""

from __future__ import annotations

from prefect import flow

import tasks.sft
from data.store import BuildMode
from models.config import SFTConfig
from tasks.stage import Produced


@flow(name="sft", flow_run_name="sft")
def sft_flow(store: str, config: SFTConfig, base: str, examples: str, mode: BuildMode = "reuse") -> Produced:
    """Fine-tune a `pretrain` artifact on a `curate` artifact."""
    return tasks.sft.sft(store, config, base, examples, mode)
