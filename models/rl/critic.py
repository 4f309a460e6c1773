"""PPO's value model (paper appendix A.1.5): how much reward a policy may still expect, before each token of an output.

Our choice: it is a reward model of its own, read at the token before; so it starts as the reward model, and its values lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from models.config import GRPOConfig
from models.rl.objectives import token_weights
from models.rl.sequences import SequenceBatch, lay_out
from models.rl.update import autocast, make_optimizer


class Critic:
    """A value model and its optimizer."""

    def __init__(self, model: PreTrainedModel, config: GRPOConfig) -> None:
        """`model` is a token classifier with one label, already on its device; it is trained in place."""
        self.model, self.config = model, config
        self.optimizer = make_optimizer(model, config, config.ppo.value_learning_rate)

    def values(self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """The value before each token of each output, without gradient, on the CPU."""
        found: list[torch.Tensor] = [torch.empty(0)] * len(outputs)
        for batch in lay_out(prompts, outputs, self.model, self.config.micro_batch_tokens):
            with torch.no_grad():
                values_N = self._values(batch).cpu()
            for member, values_T in zip(batch.members, values_N.split([len(outputs[member]) for member in batch.members]), strict=True):
                found[member] = values_T
        return found

    def update(self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], returns_BT: torch.Tensor) -> float:
        """mu gradient steps on the squared error to the returns, weighted like the policy's tokens. Returns the last loss."""
        weights = token_weights([len(output) for output in outputs])
        loss = 0.0
        for _ in range(self.config.updates_per_step):
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for batch in lay_out(prompts, outputs, self.model, self.config.micro_batch_tokens):
                lengths = [len(outputs[member]) for member in batch.members]
                returns_N = torch.cat([returns_BT[member, :length] for member, length in zip(batch.members, lengths, strict=True)])
                weights_N = torch.cat(
                    [torch.full((length,), weights[member]) for member, length in zip(batch.members, lengths, strict=True)]
                )
                device = self.model.device
                share = 0.5 * (weights_N.to(device) * (self._values(batch) - returns_N.to(device)).square()).sum()
                share.backward()
                loss += float(share.detach())
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.grad_clip)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _values(self, batch: SequenceBatch) -> torch.Tensor:
        with autocast(self.model, self.config):
            logits_BT = self.model(**batch.model_inputs(), use_cache=False).logits[..., 0]
        return logits_BT.float().sigmoid().flatten()[batch.predictor_N]
