"""PPO's value model (paper appendix A.1.5): the expected remaining reward before each token of a completion.

Our choice: it has the reward model's architecture, read at the previous token. So it can be initialised from the reward model, and its
values lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from mathquarry.models.logprobs.partition import lay_out_partition
from mathquarry.models.logprobs.sequences import SequenceBatch
from mathquarry.models.memory import pass_tokens
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, clip_gradients, shard
from mathquarry.models.reward.model import token_logits
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.objectives import token_weights
from mathquarry.models.rl.update import autocast, make_optimizer


class Critic:
    """A value model and its optimizer, sharded over ranks. Each rank is called with all completions and computes its part. The results
    cover all completions."""

    def __init__(self, model: PreTrainedModel, config: GRPOConfig) -> None:
        """`model` is a token classifier with one label. It is trained in place."""
        self.model, self.config, self.ranks = model, config, Ranks.current()
        self.module = ShardedModel(model, token_values)
        shard(self.module, self.ranks, config.precision)
        self.optimizer = make_optimizer(self.module, config, config.ppo.value_learning_rate)

    def values(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the value before each token of each completion, without gradients, on the CPU."""
        own: dict[int, torch.Tensor] = {}
        for one in lay_out_partition(prompts, completions, self.model, pass_tokens(self.config, self.model), self.ranks):
            members = one.sequences.members
            with torch.no_grad(), autocast(self.model, self.config):
                values_N = self.module(one.sequences).cpu()
            if one.counts:
                own |= zip(members, values_N.split([len(completions[member]) for member in members]), strict=True)
        found = {member: values_T for share in self.ranks.gather(own) for member, values_T in share.items()}
        return [found[place] for place in range(len(completions))]

    def update(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], returns_BT: torch.Tensor) -> float:
        """Make mu gradient steps on the squared error to the returns, with the policy's token weights. Returns the last loss."""
        lengths = [len(completion) for completion in completions]
        weights = token_weights(lengths)
        device = self.model.device
        passes = lay_out_partition(prompts, completions, self.model, pass_tokens(self.config, self.model), self.ranks)
        loss = 0.0
        for _ in range(self.config.num_updates):
            self.optimizer.zero_grad(set_to_none=True)
            total = torch.zeros((), device=device)
            for one in passes:
                members = one.sequences.members
                returns_N = torch.cat([returns_BT[member, : lengths[member]] for member in members]).to(device)
                weights_N = torch.cat([torch.full((lengths[member],), one.counts * weights[member]) for member in members]).to(device)
                with autocast(self.model, self.config):
                    values_N = self.module(one.sequences)
                share = 0.5 * (weights_N * (values_N - returns_N).square()).sum()
                share.backward()
                total += share.detach()
            clip_gradients(self.module.parameters(), self.config.optimizer.grad_clip)
            self.optimizer.step()
            loss = float(self.ranks.sum(total))
        self.optimizer.zero_grad(set_to_none=True)
        return loss


def token_values(model: PreTrainedModel, batch: SequenceBatch) -> torch.Tensor:
    """Return the value before every completion token of a pass, values_N (float32), in [0, 1]."""
    return token_logits(model, batch.model_inputs(), batch.predictor_N).sigmoid()
