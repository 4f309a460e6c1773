"""Gives the engine new weights after each step, and checks that they arrived."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from mathquarry.models.config import Precision
from mathquarry.models.policy.adapters import Unadapted, adapters_off
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, reshard
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.handover.choice import make_handover
from mathquarry.models.rollout.probe import check
from mathquarry.models.rollout.weight_check import check_weights

PROBE_PROMPTS = 4


class WeightSync:
    """Hands a policy's weights to each rank's engine, and compares engine and trainer. All ranks must call each method together."""

    def __init__(
        self,
        config: RolloutConfig,
        engine: RolloutEngine,
        ranks: Ranks,
        scratch: Path,
        prompts: Sequence[list[int]],
        *,
        tolerance: float,
        precision: Precision,
    ) -> None:
        """All ranks must see the folder `scratch`. The check uses the first of `prompts`. It fails if the mean difference of
        log-probabilities is above `tolerance`. `precision` is that of the trainer's forward passes."""
        self.engine, self.ranks, self.tolerance, self.precision = engine, ranks, tolerance, precision
        self.temperature, self.prompts = config.temperature, prompts[:PROBE_PROMPTS]
        self._handover = make_handover(config, engine, ranks, scratch)
        self.version = "start"
        """Name of the engine's current weights."""

    def sync(self, policy: ShardedModel, version: str) -> dict[str, float]:
        """Hand over, then `check`."""
        self.hand_over(policy, version)
        return self.check(policy, version)

    def hand_over(self, policy: ShardedModel, version: str) -> None:
        """Give the engine the weights of `policy`, under the name `version`."""
        with adapters_off(policy.model) if isinstance(policy, Unadapted) else nullcontext():
            self._handover.hand_over(policy.model, version)
        self.version = version

    def check(self, policy: ShardedModel, version: str) -> dict[str, float]:
        """Compare the weights of trainer and engine, then their log-probabilities on a fixed set of prompts.

        Returns `probe_mean` and `probe_largest` (|log-probability difference|, in nats) and `weights_compared` (number of tensors). Raises
        `MathQuarryError` if they differ.
        """
        compared = check_weights(self.engine, policy.model, self.ranks, version)
        with torch.autocast(policy.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            found = check(self.engine, policy, self.prompts, temperature=self.temperature, tolerance=self.tolerance, version=version)
        reshard(policy)
        return {"probe_mean": found.mean, "probe_largest": found.largest, "weights_compared": compared}
