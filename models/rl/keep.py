"""Keeps the policy with the best score on held-out questions until the end of an iteration (`grpo.keep = "best"`)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.models.policy.adapter_checkpoint import link_checkpoint
from mathquarry.models.policy.checkpoint import save
from mathquarry.models.ranks.distributed import whole_weights
from mathquarry.models.rl.weights import Models


@dataclass
class Best:
    """Weights of the best policy so far, in `folder / "step-N"`. All ranks call all methods.

    `scores` are held-out accuracies by step, including the valid ones of an interrupted run. If scores are equal, the earliest counts,
    since it is closest to the reference. A run that resumes from a checkpoint uses the best of the steps up to it.
    """

    folder: Path
    scores: dict[int, float]
    tokenizer: PreTrainedTokenizerBase
    style: PromptStyle
    base: Path
    """The checkpoint from which the policy started."""

    def step(self, until: int | None = None) -> int:
        """Return the best step so far, or among those up to `until`."""
        return max((step for step in self.scores if until is None or step <= until), key=lambda step: (self.scores[step], -step))

    def add(self, step: int, accuracy: float, models: Models, checkpoint: int | None) -> None:
        """Add a score, and save the policy's weights if it is the best. `checkpoint` is the step of the latest checkpoint."""
        self.scores[step] = accuracy
        if self.step() != step:
            return
        weights = whole_weights(models.policy.model, models.ranks) if models.ranks.size > 1 else None
        if models.ranks.is_first:
            partial = self.folder / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            save(models.policy.model, self.tokenizer, partial, self.style, weights, self.base)
            shutil.rmtree(self._of(step), ignore_errors=True)
            partial.rename(self._of(step))
            before = [known for known in self.scores if checkpoint is not None and known <= checkpoint]
            needed = {self._of(step), *([self._of(self.step(checkpoint))] if before else [])}
            for old in self.folder.glob("step-*"):
                if old not in needed:
                    shutil.rmtree(old)
        models.ranks.barrier()

    def publish(self, folder: Path) -> dict[str, float]:
        """Move the best policy to `folder`, on the first rank only. Returns its step and score."""
        step = self.step()
        link_checkpoint(self._of(step), folder)
        return {"kept_step": step, "kept_test_accuracy": self.scores[step]}

    def _of(self, step: int) -> Path:
        return self.folder / f"step-{step}"


def scores_until(records: list[dict], done: int) -> dict[int, float]:
    """Return the held-out accuracies in the log by step, up to step `done`."""
    return {
        record["step"]: record["values"]["test_accuracy"]
        for record in records
        if "test_accuracy" in record["values"] and record["step"] <= done
    }
