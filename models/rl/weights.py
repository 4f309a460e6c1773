"""Everything with weights in an iteration, loaded, sharded over ranks, and kept in checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from transformers import PreTrainedModel

from models.checkpoint import load_policy, load_reward
from models.config import GRPOConfig
from models.distributed import Called, Ranks, shard
from models.reward import RewardModel
from models.rl.critic import Critic
from models.rl.logprobs import output_logprobs
from models.rl.update import make_optimizer


@dataclass
class Models:
    """Everything with weights: what is trained (policy and, for PPO, the critic) and what is not.

    Policy and reference are sharded over ranks; the reward model is whole on each.
    """

    policy: Called
    optimizer: torch.optim.Optimizer
    reference: Called
    judge: RewardModel | None
    critic: Critic | None
    ranks: Ranks

    @classmethod
    def load(cls, config: GRPOConfig, policy: Path, reward: Path | None) -> Models:
        """Load and place what the method needs."""
        ranks = Ranks.current()

        def placed(model: PreTrainedModel) -> PreTrainedModel:
            return model.to(ranks.device)  # type: ignore[arg-type]

        trained = Called(load_policy(policy), output_logprobs)
        frozen = Called(load_policy(policy).requires_grad_(False), output_logprobs)
        shard(trained, ranks, config.precision)
        shard(frozen, ranks, config.precision)
        needs_reward = config.paradigm.reward == "model"
        assert reward is not None or not needs_reward, "a method with a reward model needs its folder"
        judge = RewardModel(placed(load_reward(reward)), config.micro_batch_tokens, config.precision) if reward and needs_reward else None
        critic = Critic(placed(load_reward(reward)), config) if reward and config.paradigm.coefficient == "gae" else None
        return cls(trained, make_optimizer(trained, config), frozen, judge, critic, ranks)

    def state(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps, whole on the first rank, so that any number of ranks can go on from it. Every rank must call it.

        No generator state: every random number is derived from (seed, iteration, step).
        """
        options = StateDictOptions(full_state_dict=True, cpu_offload=self.ranks.size > 1)
        policy, optimizer = get_state_dict(self.policy.model, self.optimizer, options=options)
        kept: dict[str, dict[str, Any]] = {"policy": dict(policy), "optimizer": dict(optimizer)}
        if self.critic is not None:
            kept |= {"critic": self.critic.model.state_dict(), "critic_optimizer": self.critic.optimizer.state_dict()}
        return kept

    def load_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Take back what `state` gave."""
        set_state_dict(
            self.policy.model,
            self.optimizer,
            model_state_dict=state["policy"],
            optim_state_dict=state["optimizer"],
            options=StateDictOptions(full_state_dict=True),
        )
        if self.critic is not None:
            self.critic.model.load_state_dict(state["critic"])
            self.critic.optimizer.load_state_dict(state["critic_optimizer"])
