"""Sampling one step ahead (`grpo.rollout.ahead = 1`): the next step's completions are sampled while the policy trains on this step's.

The completions of step t come from the policy after step t - 2; those of steps 1 and 2 come from the initial policy. The update of step t
starts from the policy after step t - 1. It is therefore one step off-policy, which truncated importance sampling corrects. The engine gets
the weights after step t when both the update of step t and the sampling for step t + 1 have ended.

A checkpoint after step t cannot reproduce the completions of step t + 1, because an older policy sampled them. So they are written to a
file before the checkpoint is.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rl.rollouts import Rollout, Rollouts
from mathquarry.models.rl.sampling import Sampler


@dataclass
class _Kept:
    """The completions of a step from all ranks, as they are written to a file."""

    rows: list[Rollout]
    group_size: int
    draws: list[int]
    seconds: float


class AheadSampler:
    """Samples this rank's part of a step during the step before. Call `close` before the engine is closed."""

    def __init__(self, sampler: Sampler, ranks: Ranks, last: int, folder: Path) -> None:
        """`last` is the last step to sample for. `folder` is for the files that belong to checkpoints; all ranks must see it."""
        self.sampler, self.ranks, self.last, self.folder = sampler, ranks, last, folder
        self._pool = ThreadPoolExecutor(1, "sample ahead", initializer=self._use_device)
        self._ready: tuple[int, Rollouts] | None = None
        self._begun: tuple[int, Future[Rollouts]] | None = None

    def take(self, step: int, version: str) -> Rollouts:
        """Return the completions of a step, and start to sample the next step with the engine's current weights, named `version`."""
        ready, self._ready = self._ready, None
        rollouts = ready[1] if ready is not None and ready[0] == step else self._sample(step, version)
        if step < self.last:
            self._begun = step + 1, self._pool.submit(self._sample, step + 1, version)
        return rollouts

    def wait(self) -> None:
        """Wait until sampling has ended, so that the engine can get new weights. Raises the error that sampling raised."""
        if self._begun is not None:
            (step, begun), self._begun = self._begun, None
            self._ready = step, begun.result()

    def save(self, step: int, newest: int | None) -> None:
        """Write the completions that were sampled ahead during `step`. Every rank must call this.

        Deletes the files of checkpoints before `newest`, the newest complete one.
        """
        if self._ready is None:
            return
        whole = self._ready[1].gathered(self.ranks)
        if self.ranks.is_first:
            kept = _Kept(whole.rows, whole.group_size, whole.draws, whole.seconds)
            with atomic_path(self._file(step)) as temporary:
                temporary.write_bytes(TypeAdapter(_Kept).dump_json(kept))
            for file in self.folder.glob("after-*.json"):
                if int(file.stem.removeprefix("after-")) < (newest or 0):
                    file.unlink()

    def restore(self, step: int) -> None:
        """Read what `save` wrote after `step`, if it wrote anything. Each rank keeps its part.

        Raises `MathQuarryError` if the file cannot be read.
        """
        file = self._file(step)
        if not file.exists():
            return
        try:
            kept = TypeAdapter(_Kept).validate_json(file.read_bytes())
        except (ValidationError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise MathQuarryError(f"cannot read {file}: {reason}. Delete the folder {self.folder.parent}, then run again.") from error
        groups = [kept.rows[start : start + kept.group_size] for start in range(0, len(kept.rows), kept.group_size)]
        rows = [one for group in self.sampler.own(groups) for one in group]
        self._ready = step + 1, Rollouts(rows, kept.group_size, self.sampler.own(kept.draws), seconds=kept.seconds)

    def close(self) -> None:
        """Wait until sampling has ended, and discard the completions."""
        self._pool.shutdown(cancel_futures=True)

    def _sample(self, step: int, version: str) -> Rollouts:
        start = time.perf_counter()
        rollouts = self.sampler.sample(step)
        for one in rollouts.rows:
            one.version = version
        rollouts.seconds = time.perf_counter() - start
        return rollouts

    def _file(self, step: int) -> Path:
        return self.folder / f"after-{step:06d}.json"

    def _use_device(self) -> None:
        """Select this rank's GPU in the new thread, which would otherwise use the first GPU."""
        if self.ranks.device.type == "cuda":
            torch.cuda.set_device(self.ranks.device)
