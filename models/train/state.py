"""Checkpoints of a training loop (supervised or GRPO): sharded, complete or absent, and readable by another number of ranks.

A checkpoint is `checkpoint-STEP`. torch.distributed.checkpoint writes it (each rank writes its shards) under `partial/`, and it is renamed
when every rank has written. There is one at a time, besides the one being written. It holds the trained weights. With adapters, the frozen
weights are in the checkpoint of step 0, if there is one.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import sync_path
from mathquarry.models.ranks.distributed import Ranks

# A single process needs no process group, so this warning is expected.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

Others = Mapping[str, tuple[PreTrainedModel, torch.optim.Optimizer]]
"""Other models that are trained together with the first one, each with its optimizer, by their names in a checkpoint."""

NO_OTHERS: Others = {}

START = 0
"""Step of the checkpoint with all weights before training, and nothing else."""

TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)
"""Options that select the trained weights."""


class Checkpoints:
    """The checkpoints of one loop in `folder`. Every rank creates this object and calls its methods in the same order."""

    def __init__(self, folder: Path, ranks: Ranks, background: bool = False) -> None:
        """`background`: copy weights and write them while training continues. This takes CPU memory for a copy."""
        self.folder, self.ranks, self.background = folder, ranks, background
        # Collectives of a save in the background must not mix with those of training.
        self._group = dist.new_group(backend="gloo") if ranks.size > 1 else None
        self._pending: tuple[int, Future] | None = None
        self._keeps_start = False
        if ranks.is_first:
            shutil.rmtree(self._partial, ignore_errors=True)
        ranks.barrier()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Call `finish`. After an error, save the pending checkpoint if possible; ranks that lost a peer cannot."""
        if kind is None:
            self.finish()
        elif self._pending is not None and self.ranks.size == 1:
            (step, future), self._pending = self._pending, None
            if future.exception() is None:
                self._publish(step)

    def newest(self) -> int | None:
        """Return the step of the latest complete checkpoint."""
        steps = [int(path.name.removeprefix("checkpoint-")) for path in self.folder.glob("checkpoint-*")]
        return self.ranks.from_first(max(steps, default=None))

    def save(self, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer | None, others: Others = NO_OTHERS) -> None:
        """Write a checkpoint, now or in the background. Raises `MathQuarryError` if this or the previous one cannot be written."""
        self.finish()
        self._keeps_start = any(not parameter.requires_grad for parameter in model.parameters())
        target = self._partial / f"checkpoint-{step}"
        try:
            if self.ranks.is_first:
                target.mkdir(parents=True, exist_ok=True)
            self.ranks.barrier()
            writer = dcp.FileSystemWriter(target)
            state, alone = _state(model, optimizer, others, step), self.ranks.size == 1
            if self.background:
                future = dcp.async_save(state, storage_writer=writer, process_group=self._group, no_dist=alone)
                self._pending = step, cast(Future, future)
                return
            dcp.save(state, storage_writer=writer, process_group=self._group, no_dist=alone)
        except (CheckpointException, OSError, RuntimeError) as error:
            raise self._failure(error) from error
        self._publish(step)

    def poll(self) -> None:
        """Publish a checkpoint written in the background, if it is finished. Raises `MathQuarryError` if writing failed."""
        if self._pending is not None and self._pending[1].done():
            self.finish()

    def finish(self) -> None:
        """Wait for a checkpoint that is being written. Raises `MathQuarryError` if writing failed."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except (CheckpointException, OSError, RuntimeError) as error:
            raise self._failure(error) from error
        self._publish(step)

    def load(self, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer | None = None, others: Others = NO_OTHERS) -> None:
        """Read weights, and optimizer state if `optimizer` is given, into a model that may be sharded over any number of ranks.

        Raises `MathQuarryError` if the checkpoint cannot be read.
        """
        path = self.folder / f"checkpoint-{step}"
        state = _state(model, optimizer, others, step)
        try:
            dcp.load(state, storage_reader=dcp.FileSystemReader(path), process_group=self._group, no_dist=self.ranks.size == 1)
        except (CheckpointException, OSError, RuntimeError, ValueError, EOFError) as error:
            raise MathQuarryError(f"cannot read the checkpoint {path}: {_first_cause(error)}. Delete it, then run again.") from error
        if optimizer is None:
            set_model_state_dict(model, state["model"], options=TRAINED)
        else:
            set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=TRAINED)
        for name, (other, its_optimizer) in others.items():
            its_state = state[name]
            set_state_dict(
                other, its_optimizer, model_state_dict=its_state["model"], optim_state_dict=its_state["optimizer"], options=TRAINED
            )

    def clear(self) -> None:
        """Delete all checkpoints. Only rank 0 does the work."""
        if self.ranks.is_first:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _partial(self) -> Path:
        return self.folder / "partial"

    def _publish(self, step: int) -> None:
        """Rename the checkpoint, on rank 0 only: a save ends there when all ranks have written."""
        if self.ranks.is_first:
            written = self._partial / f"checkpoint-{step}"
            kept = {f"checkpoint-{START}"} if self._keeps_start else set()
            older = [path for path in self.folder.glob("checkpoint-*") if path.name not in kept]
            for file in written.iterdir():
                sync_path(file)
            written.replace(self.folder / written.name)
            sync_path(self.folder)
            for checkpoint in older:
                shutil.rmtree(checkpoint)

    def _failure(self, error: BaseException) -> MathQuarryError:
        return MathQuarryError(
            f"cannot write a checkpoint to {self.folder}: {_first_cause(error)}. Free some space, then run again: training continues "
            "from the previous checkpoint."
        )


def _state(model: PreTrainedModel, optimizer: torch.optim.Optimizer | None, others: Others, step: int) -> dict[str, Any]:
    if optimizer is None:
        return {"model": get_model_state_dict(model, options=None if step == START else TRAINED)}
    weights, moments = get_state_dict(model, optimizer, options=TRAINED)
    return {"model": weights, "optimizer": moments, **{name: _state(*pair, NO_OTHERS, step) for name, pair in others.items()}}


def _first_cause(error: BaseException) -> str:
    """Return the error of the first rank that failed. Torch wraps it in a report of several pages."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
