"""Checkpoints of a training loop: sharded, whole or not there at all, and readable by another number of ranks.

A checkpoint is `checkpoint-STEP`, written by torch.distributed.checkpoint (each rank writes its shards) under `partial/` and renamed when
every rank has written. There is one at a time, besides the one being written.
"""

from __future__ import annotations

import shutil
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict, set_model_state_dict, set_state_dict
from transformers import PreTrainedModel

from data.errors import MathQuarryError
from data.files import sync_path
from models.distributed import Ranks

# One process needs no process group, and knows it.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

START = 0
"""Step of the checkpoint that holds the weights before training, and nothing else."""


class Checkpoints:
    """The checkpoints of one loop in `folder`. Every rank makes one of these and calls its methods in the same order."""

    def __init__(self, folder: Path, ranks: Ranks, background: bool = False) -> None:
        """`background`: weights are copied and written while training goes on, which takes the memory of a copy in CPU memory."""
        self.folder, self.ranks, self.background = folder, ranks, background
        # Collectives of a save in the background must not meet those of training.
        self._group = dist.new_group(backend="gloo") if ranks.size > 1 else None
        self._pending: tuple[int, Future] | None = None
        if ranks.is_first:
            shutil.rmtree(self._partial, ignore_errors=True)
        ranks.barrier()

    def newest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        steps = [int(path.name.removeprefix("checkpoint-")) for path in self.folder.glob("checkpoint-*")]
        return self.ranks.from_first(max(steps, default=None))

    def save(self, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer | None) -> None:
        """Write a checkpoint, now or in the background. Raises `MathQuarryError` when it, or the one before it, cannot be written."""
        self.finish()
        target = self._partial / f"checkpoint-{step}"
        try:
            if self.ranks.is_first:
                target.mkdir(parents=True, exist_ok=True)
            self.ranks.barrier()
            writer = dcp.FileSystemWriter(target)
            state, alone = _state(model, optimizer), self.ranks.size == 1
            if self.background:
                future = dcp.async_save(state, storage_writer=writer, process_group=self._group, no_dist=alone)
                self._pending = step, cast(Future, future)
                return
            dcp.save(state, storage_writer=writer, process_group=self._group, no_dist=alone)
        except (CheckpointException, OSError, RuntimeError) as error:
            raise self._failure(error) from error
        self._publish(step)

    def poll(self) -> None:
        """Publish what was written in the background, if it is finished. Raises `MathQuarryError` when it failed."""
        if self._pending is not None and self._pending[1].done():
            self.finish()

    def finish(self) -> None:
        """Wait for what is being written. Raises `MathQuarryError` when it cannot be."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except (CheckpointException, OSError, RuntimeError) as error:
            raise self._failure(error) from error
        self._publish(step)

    def load(self, step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Read weights, and optimizer state if there is an optimizer, into a model that may be sharded over any number of ranks.

        Raises `MathQuarryError` when the checkpoint cannot be read.
        """
        path = self.folder / f"checkpoint-{step}"
        state = _state(model, optimizer)
        try:
            dcp.load(state, storage_reader=dcp.FileSystemReader(path), process_group=self._group, no_dist=self.ranks.size == 1)
        except (CheckpointException, OSError, RuntimeError, ValueError, EOFError) as error:
            raise MathQuarryError(f"cannot read the checkpoint {path}: {_first_cause(error)}. Delete it, then run again.") from error
        if optimizer is None:
            set_model_state_dict(model, state["model"])
        else:
            set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def clear(self) -> None:
        """Delete all checkpoints; rank 0 does."""
        if self.ranks.is_first:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _partial(self) -> Path:
        return self.folder / "partial"

    def _publish(self, step: int) -> None:
        """Rank 0 hears that a save is over when all ranks have written; only it renames."""
        if self.ranks.is_first:
            written = self._partial / f"checkpoint-{step}"
            older = list(self.folder.glob("checkpoint-*"))
            for file in written.iterdir():
                sync_path(file)
            written.replace(self.folder / written.name)
            sync_path(self.folder)
            for checkpoint in older:
                shutil.rmtree(checkpoint)

    def _failure(self, error: BaseException) -> MathQuarryError:
        return MathQuarryError(
            f"cannot write a checkpoint to {self.folder}: {_first_cause(error)}. Free some space, then run again: training goes on from "
            "the checkpoint before."
        )


def _state(model: PreTrainedModel, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    if optimizer is None:
        return {"model": get_model_state_dict(model)}
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments}


def _first_cause(error: BaseException) -> str:
    """What the first rank that failed said; torch wraps it in a report of several pages."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
