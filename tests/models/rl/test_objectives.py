"""Eq. 3 and 4 against autograd and the closed-form gradient coefficient (paper Eq. 21)."""

from __future__ import annotations

import math

import pytest
import torch

from mathquarry.models.rl.objectives import clipped_token_loss, grpo_token_loss, kl_estimate, token_weights

CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def test_kl_estimate_is_never_negative_and_zero_only_where_the_models_agree() -> None:
    logprobs = torch.linspace(-8, -0.01, 50, dtype=torch.float64)
    kl = kl_estimate(logprobs, logprobs.flip(0))
    assert (kl > 0).all()
    assert kl_estimate(logprobs, logprobs).eq(0).all()


def test_kl_estimate_follows_eq_4() -> None:
    # pi = 0.2, pi_ref = 0.5: ratio 2.5.
    assert float(kl_estimate(torch.tensor(0.2).log(), torch.tensor(0.5).log())) == pytest.approx(2.5 - math.log(2.5) - 1, rel=1e-6)


def test_kl_estimate_is_unbiased() -> None:
    pi, reference = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    expectation = (pi * kl_estimate(pi.log(), reference.log())).sum()
    torch.testing.assert_close(expectation, (pi * (pi / reference).log()).sum())


def test_kl_gradient_is_one_minus_the_ratio_to_the_reference() -> None:
    logprobs = torch.tensor([-2.0, -1.0, -0.5], requires_grad=True)
    reference = torch.tensor([-1.0, -1.0, -3.0])
    kl_estimate(logprobs, reference).sum().backward()
    torch.testing.assert_close(logprobs.grad, 1 - torch.exp(reference - logprobs.detach()))


def test_on_policy_gradient_coefficient_is_advantage_plus_beta_times_ratio_minus_one() -> None:
    beta = 0.04
    logits = torch.randn(9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    targets = torch.arange(9)
    advantages = torch.linspace(-2, 2, 9, dtype=torch.float64)
    logprobs = logits.log_softmax(-1)[torch.arange(9), targets]
    reference = logprobs.detach() + torch.linspace(-1, 1, 9, dtype=torch.float64)
    loss = grpo_token_loss(logprobs, logprobs.detach(), reference, advantages, **CLIP, kl_coef=beta)
    (gradient,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)

    coefficient = advantages + beta * (torch.exp(reference - logprobs.detach()) - 1)
    (expected,) = torch.autograd.grad((coefficient * logprobs).sum(), logits)
    torch.testing.assert_close(gradient, -expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "gradient"),
    [
        (1.1, 2.0, 2.2, 2.2),  # inside the range: rho A, and d(rho A)/d(log pi) = rho A
        (1.5, 2.0, 2.4, 0.0),  # a good token already made likelier than 1 + eps: cut
        (0.5, 2.0, 1.0, 1.0),  # a good token made less likely: not cut
        (0.9, -1.0, -0.9, -0.9),
        (0.5, -1.0, -0.8, 0.0),  # a bad token already made rarer than 1 - eps: cut
        (1.5, -1.0, -1.5, -1.5),  # a bad token made likelier: not cut
    ],
)
def test_clipping_cuts_only_what_would_go_further_the_same_way(ratio: float, advantage: float, objective: float, gradient: float) -> None:
    old = torch.tensor(-1.0, dtype=torch.float64)
    logprob = (old + math.log(ratio)).requires_grad_()
    loss = grpo_token_loss(logprob, old, None, torch.tensor(advantage, dtype=torch.float64), **CLIP, kl_coef=0.0)
    loss.backward()
    assert -loss.item() == pytest.approx(objective)
    assert logprob.grad is not None
    assert -logprob.grad.item() == pytest.approx(gradient)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.25, 1.0, 1.25),  # above 1 + eps, and not yet above 1.28
        (1.29, 1.0, 0.0),
        (0.75, -1.0, 0.0),  # below, eps is what it was
        (0.85, -1.0, -0.85),
    ],
)
def test_a_clip_range_of_its_own_above_moves_the_upper_side_alone(ratio: float, advantage: float, gradient: float) -> None:
    old = torch.tensor(-1.0, dtype=torch.float64)
    for loss_of in (
        lambda logprob, a: clipped_token_loss(torch.exp(logprob - old), a, 0.2, 0.28),
        lambda logprob, a: grpo_token_loss(logprob, old, None, a, clip_low=0.2, clip_high=0.28, kl_coef=0.0),
    ):
        logprob = (old + math.log(ratio)).requires_grad_()
        loss_of(logprob, torch.tensor(advantage, dtype=torch.float64)).backward()
        assert logprob.grad is not None
        assert -logprob.grad.item() == pytest.approx(gradient)


def test_loss_adds_beta_times_kl_to_minus_the_surrogate() -> None:
    logprobs, old, reference, advantages = torch.tensor([-1.0]), torch.tensor([-1.1]), torch.tensor([-0.7]), torch.tensor([0.5])
    ratio, log_ratio = math.exp(0.1), 0.3
    expected = -(ratio * 0.5) + 0.04 * (math.exp(log_ratio) - log_ratio - 1)
    assert float(grpo_token_loss(logprobs, old, reference, advantages, **CLIP, kl_coef=0.04)) == pytest.approx(expected, rel=1e-5)


def test_each_output_weighs_the_same_whatever_its_length() -> None:
    assert token_weights([2, 5, 1]) == [1 / 6, 1 / 15, 1 / 3]
    assert sum(weight * length for weight, length in zip(token_weights([2, 5, 1]), [2, 5, 1], strict=True)) == pytest.approx(1)


def test_an_output_without_tokens_counts_and_weighs_nothing() -> None:
    assert token_weights([0, 4]) == [0.0, 1 / 8]
