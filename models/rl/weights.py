"""Loads the models of an iteration, and shards them over ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.memory import pass_tokens
from mathquarry.models.peak import tensors_of
from mathquarry.models.policy.adapters import Unadapted, add_adapters
from mathquarry.models.policy.attention import use_attention
from mathquarry.models.policy.checkpoint import load_policy, load_reward
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, freeze, shard
from mathquarry.models.reward.model import RewardModel, token_logits
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.critic import Critic
from mathquarry.models.rl.update import make_optimizer


@dataclass
class Models:
    """The models of an iteration. The policy and PPO's critic are trained; the reference and the reward model are frozen.

    All models are sharded over ranks. Frozen weights are stored in the precision of their forward passes. With LoRA adapters, the reference
    is the policy with its adapters off, not a copy.
    """

    policy: ShardedModel
    optimizer: torch.optim.Optimizer
    reference: ShardedModel
    reward_model: RewardModel | None
    critic: Critic | None
    ranks: Ranks

    @classmethod
    def load(cls, config: GRPOConfig, policy: Path, reward: Path | None) -> Models:
        """Load the models that the method needs."""
        ranks = Ranks.current()

        def attending(model: PreTrainedModel) -> PreTrainedModel:
            use_attention(model, config.attn_implementation)
            return model

        adapted = add_adapters(attending(load_policy(policy)), config.lora, config.seed, config.precision_beside_adapters)
        trained = ShardedModel(adapted, completion_logprobs)
        shard(trained, ranks, config.precision)
        reference: ShardedModel = Unadapted(trained)
        if not config.lora.rank:
            # An offline reference also generates. Generation has no autocast, so its weights stay float32.
            frozen = freeze(attending(load_policy(policy)), config.precision if config.paradigm.data == "online" else "float32")
            reference = ShardedModel(frozen, completion_logprobs)
            shard(reference, ranks, config.precision)
        reward_model = None
        if config.scored_by_model:
            assert reward is not None, "a method with a reward model needs its folder"
            scorer = ShardedModel(freeze(attending(load_reward(reward)), config.precision), token_logits)
            shard(scorer, ranks, config.precision)
            reward_model = RewardModel(scorer, pass_tokens(config, scorer.model), config.precision)
        critic = None
        if reward and config.paradigm.advantage == "gae":
            valued = add_adapters(attending(load_reward(reward)), config.lora, config.seed, config.precision)
            critic = Critic(valued, config)
        return cls(trained, make_optimizer(trained, config), reference, reward_model, critic, ranks)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield all weights and moments on this rank."""
        critic = (self.critic.model, self.critic.optimizer) if self.critic else ()
        scorer = (self.reward_model.model,) if self.reward_model else ()
        for one in (self.policy.model, self.reference.model, self.optimizer, *scorer, *critic):
            yield from tensors_of(one)

    @property
    def others(self) -> dict[str, tuple[PreTrainedModel, torch.optim.Optimizer]]:
        """Other models in a checkpoint, with their optimizers: PPO's value model.

        A checkpoint needs no generator state, because all random numbers are derived from seed, iteration and step.
        """
        return {} if self.critic is None else {"critic": (self.critic.model, self.critic.optimizer)}
