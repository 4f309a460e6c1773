"""Everything with weights in an iteration, loaded and sharded over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.memory import pass_tokens
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
    """Everything with weights: what is trained (policy and, for PPO, the critic) and what is not. With adapters the reference is the policy
    without them, and no copy.

    Policy, reference, reward model and critic are sharded over ranks; what is not trained is kept in the precision of its passes.
    """

    policy: ShardedModel
    optimizer: torch.optim.Optimizer
    reference: ShardedModel
    reward_model: RewardModel | None
    critic: Critic | None
    ranks: Ranks

    @classmethod
    def load(cls, config: GRPOConfig, policy: Path, reward: Path | None) -> Models:
        """Load and place what the method needs."""
        ranks = Ranks.current()

        def attending(model: PreTrainedModel) -> PreTrainedModel:
            use_attention(model, config.attn_implementation)
            return model

        adapted = add_adapters(attending(load_policy(policy)), config.lora, config.seed, config.precision_beside_adapters)
        trained = ShardedModel(adapted, completion_logprobs)
        shard(trained, ranks, config.precision)
        reference: ShardedModel = Unadapted(trained)
        if not config.lora.rank:
            # A reference that generates does so without autocast, so it stays float32.
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

    @property
    def others(self) -> dict[str, tuple[PreTrainedModel, torch.optim.Optimizer]]:
        """What a checkpoint keeps beside policy and optimizer: PPO's value model. No generator state, since every random number is derived
        from (seed, iteration, step)."""
        return {} if self.critic is None else {"critic": (self.critic.model, self.critic.optimizer)}
