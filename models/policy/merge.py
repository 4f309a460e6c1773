"""Merges adapters into plain weights, for other programs and for engines that cannot load adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.checkpoint import is_reward, load_policy, load_reward, load_tokenizer, read_prompt_style, save


def merge(folder: Path, merged: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the policy or reward model in the checkpoint folder `folder` to `merged`, as plain weights in `dtype` with adapters merged.

    A checkpoint without adapters is written unchanged. Raises `MathQuarryError` if `folder` is not a checkpoint, or if the disk is full.
    """
    load = load_reward if is_reward(folder) else load_policy
    tokenizer = load_tokenizer(folder)
    save(load(folder, dtype), tokenizer, merged, read_prompt_style(folder, tokenizer))


@contextmanager
def whole_checkpoint(folder: Path) -> Iterator[Path]:
    """Yield a folder without adapters: `folder` itself, or a temporary one with merged weights."""
    if not is_adapted(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mathquarry-merged-") as merged:
        merge(folder, Path(merged))
        yield Path(merged)
