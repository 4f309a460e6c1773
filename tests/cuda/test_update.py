"""The policy update on a GPU against the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience, make_optimizer, sequence_logprobs, update_policy
from mathquarry.models.train.config import OptimizerConfig
from tests.cuda.shapes import completions_to_learn_from, small_llama

CPU = torch.device("cpu")
CONFIG = GRPOConfig(precision="float32", micro_batch_tokens=1024, optimizer=OptimizerConfig(grad_clip=1e9))
EXPERIENCE = completions_to_learn_from()


def gradient_of_one_update(device: torch.device, experience: Experience = EXPERIENCE, **changes: object) -> torch.Tensor:
    """The weights before an update of plain gradient descent with rate 1 minus those after it, on the CPU."""
    policy, reference = small_llama(0, device), small_llama(1, device)
    before = torch.cat([weights.detach().flatten().cpu() for weights in policy.parameters()])
    config = CONFIG.model_copy(update=changes)
    update_policy(policy, reference, torch.optim.SGD(policy.parameters(), lr=1.0), experience, config)
    return before - torch.cat([weights.detach().flatten().cpu() for weights in policy.parameters()])


def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    """Cosine of the angle between two gradients."""
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def test_in_float32_the_gradient_is_that_of_the_cpu(device: torch.device) -> None:
    ours, theirs = gradient_of_one_update(device), gradient_of_one_update(CPU)
    assert alike(ours, theirs) > 0.9999
    assert float(ours.norm()) == pytest.approx(float(theirs.norm()), rel=1e-3)


def test_in_bfloat16_the_gradient_points_where_float32_points(device: torch.device) -> None:
    rounded, exact = gradient_of_one_update(device, precision="bfloat16"), gradient_of_one_update(CPU)
    assert alike(rounded, exact) > 0.99
    assert float(rounded.norm()) == pytest.approx(float(exact.norm()), rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_micro_batches_do_not_change_the_gradient(device: torch.device, precision: str) -> None:
    whole, cut = (gradient_of_one_update(device, precision=precision, micro_batch_tokens=size) for size in (8192, 160))
    assert alike(whole, cut) > (0.9999 if precision == "float32" else 0.99)


def test_log_probabilities_are_those_of_the_cpu(device: torch.device) -> None:
    ours, theirs = (sequence_logprobs(small_llama(0, where), EXPERIENCE.prompts, EXPERIENCE.completions, CONFIG) for where in (device, CPU))
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_several_steps_of_adamw_end_where_the_cpu_ends(device: torch.device) -> None:
    """Three steps at a rate of 1e-4: weights move by about 3e-4, and differ by far less."""
    ended = []
    for where in (device, CPU):
        policy, reference = small_llama(0, where), small_llama(1, where)
        config = CONFIG.model_copy(update={"learning_rate": 1e-4})
        optimizer = make_optimizer(policy, config)
        for _ in range(3):
            update_policy(policy, reference, optimizer, EXPERIENCE, config)
        ended.append(torch.cat([weights.detach().flatten().cpu() for weights in policy.parameters()]))
    assert float((ended[0] - ended[1]).abs().mean()) < 1e-5


def test_how_long_an_update_takes_and_how_much_memory(gpu: torch.device, note: Callable[[str, float, str], None]) -> None:
    policy, reference = small_llama(0, gpu), small_llama(1, gpu)
    config = CONFIG.model_copy(update={"precision": "bfloat16", "micro_batch_tokens": 8192})
    optimizer = make_optimizer(policy, config)
    update_policy(policy, reference, optimizer, EXPERIENCE, config)
    torch.cuda.synchronize()
    start = time.perf_counter()
    update_policy(policy, reference, optimizer, EXPERIENCE, config)
    torch.cuda.synchronize()
    note("update of 6M weights on 16 completions, bfloat16", time.perf_counter() - start, "s")
    note("peak memory of that update", torch.cuda.max_memory_allocated() / 2**20, "MiB")
