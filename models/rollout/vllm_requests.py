"""Requests to vLLM and its answers: seeds, progress, log-probabilities, and the weights that it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.store.workspace import Bar
from mathquarry.models.rollout.engine import Completion, Stop

HEAD = "lm_head.weight"


class ProgressRelay:
    """Replaces vLLM's progress bar, and forwards its counts to ours."""

    def __init__(self, bar: Bar, copies: int) -> None:
        self._bar, self._copies, self._started = bar, copies, time.monotonic()
        self.n = 0
        self.postfix = ""

    @classmethod
    def to(cls, bar: Bar, copies: int) -> Any:
        """Return a factory, which vLLM calls with the options of its bar."""
        return lambda **options: cls(bar, copies)

    @property
    def format_dict(self) -> dict[str, float]:
        """Seconds since the start, from which vLLM computes speeds."""
        return {"elapsed": max(time.monotonic() - self._started, 1e-6)}

    def update(self, count: int) -> None:
        """Add finished requests."""
        self.n += count
        self._bar.advance(count * self._copies)

    def refresh(self) -> None:
        """Do nothing: there is nothing to draw."""

    def close(self) -> None:
        """Do nothing: our bar closes itself."""


def chosen_logprobs(logprobs: Any) -> list[float]:
    """Return the log-probability of the token at each position: the first of vLLM's entries for it."""
    entries = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
    return [logprobs.logprobs[start] for start, end in entries if end > start]


def goes_on(completion: Completion, room: int, stop: Stop) -> bool:
    """Whether a paused completion continues. Marks it as stopped if the stop holds."""
    completion.stopped = not completion.finished and completion.tokens[-1] in stop.tokens and stop.holds(completion.tokens)
    return not (completion.finished or completion.stopped) and len(completion.tokens) < room


def mixed_seed(seed: int) -> int:
    """Return a seed far from the mixed seeds of its neighbours, with room for adding a sample's number."""
    return int(np.random.SeedSequence(seed & 0xFFFF_FFFF_FFFF_FFFF).generate_state(1, np.uint64)[0] >> np.uint64(2))


def ticked(weights: Iterable[tuple[str, torch.Tensor]], missing: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights, and remove each from `missing`."""
    for name, tensor in weights:
        missing.discard(name)
        yield name, tensor


def require_head(model_dir: Path) -> None:
    """Refuse a folder without weights of the head: vLLM would keep the head that was loaded before."""
    if (model_dir / "model.safetensors.index.json").exists():
        names = set(read_json(model_dir / "model.safetensors.index.json")["weight_map"])
    elif (model_dir / "model.safetensors").exists():
        with safe_open(model_dir / "model.safetensors", "pt") as file:
            names = set(file.keys())
    else:
        raise MathQuarryError(f"{model_dir} has no model.safetensors. vLLM needs a checkpoint folder written by a stage.")
    if HEAD not in names and AutoConfig.from_pretrained(model_dir, trust_remote_code=False).tie_word_embeddings:
        raise MathQuarryError(f"{model_dir} has tied embeddings and no separate {HEAD}. Save it with models.policy.checkpoint.save.")
