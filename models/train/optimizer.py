"""Optimizer, learning rate schedule and rows per supervised step (paper sections 2.2 and 2.3)."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.train.config import ScheduleConfig, TrainConfig
from mathquarry.models.train.offload import OffloadedAdamW


def rows_per_step(config: TrainConfig) -> int:
    """Return the number of packed rows per optimizer step. Raises `MathQuarryError` if `batch_tokens` is less than one row."""
    rows = config.batch_tokens // config.context_tokens
    if rows == 0:
        raise MathQuarryError(
            f"batch_tokens is {config.batch_tokens}, less than one row of context_tokens = {config.context_tokens}. Raise it."
        )
    return rows


def schedule_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step (counted from 0, of `steps`) as a share of the peak (paper section 2.2).

    Warm-up is linear, and its first step is not zero. `drops` and the cosine are relative to all steps, including warm-up.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.kind == "multi-step":
        factor = 1.0
        for share, value in sorted(config.drops):
            if step >= share * steps:
                factor = value
        return factor
    if config.kind == "cosine":
        progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        return config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def make_optimizer(model: PreTrainedModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW. Matrices have weight decay, vectors (norms and biases) have none."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = {"params": [parameter for parameter in parameters if parameter.ndim > 1]}
    vectors = {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0}
    groups: list[dict[str, Any]] = [matrices, vectors]
    kind = OffloadedAdamW if config.optimizer.offload else torch.optim.AdamW
    return kind(
        groups,
        lr=config.learning_rate,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
