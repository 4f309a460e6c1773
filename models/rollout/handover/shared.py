"""Handover in this process: the engine reads tensors one by one, or generates with the trainer's own module."""

from __future__ import annotations

from transformers import PreTrainedModel

from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.weights import whole_tensors


class SharedHandover:
    """A `Handover` to an engine in the rank's own process. Data stay on the device; shards are gathered one tensor at a time."""

    def __init__(self, engine: RolloutEngine, *, live: bool) -> None:
        """`live`: an engine that can may generate with the trainer's own module, which nobody else shards or changes meanwhile."""
        self.engine, self.live = engine, live

    def hand_over(self, policy: PreTrainedModel, version: str) -> None:
        """See `Handover.hand_over`."""
        if self.live:
            self.engine.load_live(policy, version)
        else:
            self.engine.receive(whole_tensors(policy, self.engine.dtype), version)
