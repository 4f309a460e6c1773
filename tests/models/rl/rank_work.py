"""What ranks do in tests of the update: importable, as `launch` asks."""

from __future__ import annotations

from typing import Any

import torch

from data.workspace import Workspace
from models.config import GRPOConfig
from models.distributed import Called, Ranks, shard, whole_weights
from models.rl.logprobs import output_logprobs
from models.rl.shares import lay_out_share
from models.rl.update import Experience, make_optimizer, sequence_logprobs, update_policy
from tests.models.rl.tiny import tiny_policy


def two_steps(space: Workspace, experience: Experience, config: GRPOConfig) -> dict[str, Any]:
    """Two optimizer steps on a batch, and log-probabilities after them."""
    ranks = Ranks.current()
    policy, reference = Called(tiny_policy(0), output_logprobs), Called(tiny_policy(1).requires_grad_(False), output_logprobs)
    shard(policy, ranks)
    shard(reference, ranks)
    optimizer = make_optimizer(policy, config)
    figures = [update_policy(policy, reference, optimizer, experience, config) for _ in range(2)]
    passes = lay_out_share(experience.prompts, experience.outputs, policy.model, config.micro_batch_tokens, ranks)
    return {
        "figures": figures,
        "logprobs": torch.cat(sequence_logprobs(policy, experience.prompts, experience.outputs, config)),
        "passes": ranks.gather([one.counts for one in passes]),
        "weights": whole_weights(policy.model, ranks),
    }
