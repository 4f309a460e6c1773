"""The policy update: invariances, pi_old, the frozen reference."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

from data.errors import MathQuarryError
from models.config import GRPOConfig, OptimizerConfig
from models.rl.update import Experience, make_optimizer, update_policy
from tests.models.rl.tiny import tiny_policy

CONFIG = GRPOConfig(precision="float32", learning_rate=1e-3)
GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (4, 4, 9, 9, 2, 2, 6, 6)]
OUTPUTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (3, 7, 1, 5, 12, 2, 6, 4)]
EXPERIENCE = Experience(PROMPTS, OUTPUTS, torch.randn(8, 12, generator=GENERATOR))


def gradient_of_one_update(micro_batch_tokens: int, experience: Experience = EXPERIENCE) -> torch.Tensor:
    """The gradient that one update takes, read off plain gradient descent with rate 1 and no clipping."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    before = torch.cat([weights.detach().flatten().clone() for weights in policy.parameters()])
    config = CONFIG.model_copy(update={"micro_batch_tokens": micro_batch_tokens, "optimizer": OptimizerConfig(grad_clip=1e9)})
    update_policy(policy, reference, torch.optim.SGD(policy.parameters(), lr=1.0), experience, config)
    return before - torch.cat([weights.detach().flatten() for weights in policy.parameters()])


def test_one_forward_pass_and_eight_give_the_same_gradient() -> None:
    together, apart = gradient_of_one_update(10_000), gradient_of_one_update(1)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-6)
    assert together.norm() > 0.1


def test_the_order_of_outputs_does_not_matter() -> None:
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    shuffled = Experience([PROMPTS[i] for i in order], [OUTPUTS[i] for i in order], EXPERIENCE.advantages_BT[order])
    torch.testing.assert_close(gradient_of_one_update(40), gradient_of_one_update(40, shuffled), rtol=1e-4, atol=1e-6)


def test_repeated_outputs_weigh_as_often_as_they_were_sampled() -> None:
    rows = [0, 1, 0, 3, 3, 3]
    advantages_BT = EXPERIENCE.advantages_BT[rows]
    repeated = Experience([PROMPTS[i] for i in rows], [OUTPUTS[i] for i in rows], advantages_BT)
    # A hair of difference in the advantages keeps copies apart.
    apart = Experience(repeated.prompts, repeated.outputs, advantages_BT * (1 + torch.arange(6)[:, None] * 1e-6))
    torch.testing.assert_close(gradient_of_one_update(40, repeated), gradient_of_one_update(40, apart), rtol=1e-3, atol=1e-5)


def test_gradient_is_eq_21_written_out() -> None:
    policy, reference, beta = tiny_policy(0), tiny_policy(1), CONFIG.kl_coef
    objective = torch.tensor(0.0)
    for row, (prompt, output) in enumerate(zip(PROMPTS, OUTPUTS, strict=True)):
        for t, token in enumerate(output):
            prefix = torch.tensor([prompt + output[:t]])
            log_pi = policy(prefix).logits[0, -1].log_softmax(-1)[token]
            log_ref = reference(prefix).logits[0, -1].log_softmax(-1)[token].detach()
            coefficient = EXPERIENCE.advantages_BT[row, t] + beta * (torch.exp(log_ref - log_pi.detach()) - 1)
            objective = objective + coefficient * log_pi / (len(output) * len(OUTPUTS))
    expected = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(-objective, list(policy.parameters()))])
    torch.testing.assert_close(gradient_of_one_update(60), expected, rtol=1e-3, atol=1e-5)


def run_updates(updates: int) -> tuple[PreTrainedModel, PreTrainedModel, dict[str, float]]:
    policy, reference = tiny_policy(0), tiny_policy(1)
    config = CONFIG.model_copy(update={"updates_per_step": updates, "micro_batch_tokens": 40})
    figures = update_policy(policy, reference, make_optimizer(policy, config), EXPERIENCE, config)
    return policy, reference, figures


def test_with_one_update_the_ratio_is_exactly_1() -> None:
    _, _, figures = run_updates(1)
    assert figures["ratio_min"] == figures["ratio_max"] == 1.0
    assert figures["clip_fraction"] == 0.0


def test_with_more_updates_the_ratio_is_to_the_policy_that_sampled() -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"learning_rate": 1e-2, "updates_per_step": 4})
    figures = update_policy(policy, tiny_policy(1), make_optimizer(policy, config), EXPERIENCE, config)
    assert figures["ratio_max"] > 1.2
    assert 0 < figures["clip_fraction"] < 1


def test_the_reference_does_not_change_and_gets_no_gradient() -> None:
    _, reference, _ = run_updates(2)
    fresh = tiny_policy(1)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), fresh.parameters(), strict=True))
    assert all(weights.grad is None for weights in reference.parameters())


def test_kl_to_an_equal_reference_is_0() -> None:
    policy = tiny_policy(0)
    figures = update_policy(policy, copy.deepcopy(policy), make_optimizer(policy, CONFIG), EXPERIENCE, CONFIG)
    assert figures["kl"] == 0.0


def test_without_kl_the_reference_is_not_asked() -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"kl_coef": 0.0})
    figures = update_policy(policy, None, make_optimizer(policy, config), EXPERIENCE, config)  # type: ignore[arg-type]
    assert figures["kl"] is None


def test_good_outputs_become_likelier_and_bad_ones_rarer() -> None:
    advantages_BT = torch.ones(8, 12) * torch.tensor([1.0, -1.0] * 4)[:, None]
    experience = Experience(PROMPTS, OUTPUTS, advantages_BT)
    policy = tiny_policy(0)
    config = CONFIG.model_copy(update={"kl_coef": 0.0})
    optimizer = make_optimizer(policy, config)
    losses = [
        update_policy(policy, policy, optimizer, experience, config.model_copy(update={"updates_per_step": n}))["loss"] for n in (1, 9)
    ]
    assert losses[1] < losses[0]


def test_gradients_are_clipped_to_the_configured_norm() -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"optimizer": OptimizerConfig(grad_clip=1e-3)})
    before = torch.cat([weights.detach().flatten().clone() for weights in policy.parameters()])
    figures = update_policy(policy, tiny_policy(1), torch.optim.SGD(policy.parameters(), lr=1.0), EXPERIENCE, config)
    after = torch.cat([weights.detach().flatten() for weights in policy.parameters()])
    assert figures["gradient_norm"] > 1e-3
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_a_gradient_that_is_not_finite_stops_the_run() -> None:
    experience = Experience(PROMPTS, OUTPUTS, torch.full((8, 12), float("nan")))
    policy = tiny_policy(0)
    with pytest.raises(MathQuarryError, match="gradient norm nan"):
        update_policy(policy, tiny_policy(1), make_optimizer(policy, CONFIG), experience, CONFIG)
