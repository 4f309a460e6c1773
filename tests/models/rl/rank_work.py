"""Functions that ranks execute in tests of the update; `launch` needs them importable."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.logprobs.partition import lay_out_partition
from mathquarry.models.policy.adapters import Unadapted, add_adapters
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, shard, whole_weights
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience, make_optimizer, sequence_logprobs, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.handover.choice import make_handover
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.weight_check import check_weights
from tests.models.rl.tiny import tiny_policy


def hand_over(workspace: Workspace, folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Sharded weights to each rank's engine, each way and in both precisions: was the sync missed before it, and what compared after it."""
    ranks = Ranks.current()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for way, precision in product(("shared", "folder"), ("float32", "bfloat16")):
        policy = ShardedModel(load_policy(folder), completion_logprobs)
        shard(policy, ranks, precision)
        config = RolloutConfig(handover=way)
        engine = TransformersEngine(config, load_policy(folder, getattr(torch, precision)))
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6)
        for parameter in policy.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        stale = False
        try:
            check_weights(engine, policy.model, ranks, "step 1")
        except MathQuarryError:
            stale = True
        make_handover(config, engine, ranks, workspace.scratch).hand_over(policy.model, "step 1")
        found[way, precision] = {"stale": stale, "compared": ranks.gather(check_weights(engine, policy.model, ranks, "step 1"))}
    return found


def two_steps(workspace: Workspace, experience: Experience, config: GRPOConfig) -> dict[str, Any]:
    """Two optimizer steps on a batch, and log-probabilities after them."""
    ranks = Ranks.current()
    policy, reference = (
        ShardedModel(tiny_policy(0), completion_logprobs),
        ShardedModel(tiny_policy(1).requires_grad_(False), completion_logprobs),
    )
    shard(policy, ranks)
    shard(reference, ranks)
    optimizer = make_optimizer(policy, config)
    metrics = [update_policy(policy, reference, optimizer, experience, config) for _ in range(2)]
    passes = lay_out_partition(experience.prompts, experience.completions, policy.model, config.micro_batch_tokens, ranks)
    return {
        "metrics": metrics,
        "logprobs": torch.cat(sequence_logprobs(policy, experience.prompts, experience.completions, config)),
        "passes": ranks.gather([one.counts for one in passes]),
        "weights": whole_weights(policy.model, ranks),
    }


def adapter_step(workspace: Workspace, experience: Experience, config: GRPOConfig) -> dict[str, Any]:
    """One update of adapters against the policy without them; weights beside them are kept in the precision of the passes."""
    ranks = Ranks.current()
    policy = ShardedModel(add_adapters(tiny_policy(0), config.lora, 0, config.precision), completion_logprobs)
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    shard(policy, ranks, config.precision)
    return update_policy(policy, Unadapted(policy), make_optimizer(policy, config), experience, config)


def iterate_until_step_four(workspace: Workspace, *arguments: Any) -> Any:
    """An iteration of GRPO that fails on every rank when it is to learn from the fourth step."""
    import mathquarry.models.rl.grpo as grpo
    import mathquarry.models.rl.loop as loop

    update, calls = loop.update_policy, []

    def dies(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise MathQuarryError("killed")
        return update(*given)

    loop.update_policy = dies
    return grpo._iterate(workspace, *arguments)
