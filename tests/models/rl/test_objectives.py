"""The objectives against autograd, gradient coefficients against Eq. 5 as it is printed, GAE against its sum."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from mathquarry.models.rl.advantages import outcome_advantages, pad_steps, process_advantages
from mathquarry.models.rl.objectives import (
    clipped_token_loss,
    generalised_advantages,
    grpo_token_loss,
    kl_estimate,
    likelihood_token_loss,
    preference_coefficients,
    token_weights,
)

LENGTHS = [3, 5, 2, 4, 1, 6]
REWARDS = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
GENERATOR = torch.Generator().manual_seed(2)
CLIP = {"clip_low": 0.2, "clip_high": 0.2}
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


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


def random_logprobs() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits of all tokens (a leaf, float64), and the log-probability of token 0 at each, one vector a completion."""
    logits = torch.randn(sum(LENGTHS), 7, generator=GENERATOR, dtype=torch.float64, requires_grad=True)
    return logits, list(logits.log_softmax(-1)[:, 0].split(LENGTHS))


def gradient_of_eq_5(logits: torch.Tensor, logprobs: list[torch.Tensor], coefficients: list[torch.Tensor]) -> torch.Tensor:
    """Eq. 5 as it is printed: the mean over completions of 1/|o| sum_t GC grad log pi."""
    terms = [(c * logprob).sum() / len(logprob) for c, logprob in zip(coefficients, logprobs, strict=True)]
    return torch.autograd.grad(torch.stack(terms).sum() / len(terms), logits, retain_graph=True)[0]


def gradient_of_loss(logits: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    weights = torch.cat([torch.full((n,), w, dtype=torch.float64) for n, w in zip(LENGTHS, token_weights(LENGTHS), strict=True)])
    return torch.autograd.grad(-(weights * losses).sum(), logits, retain_graph=True)[0]


def spread(values_B: torch.Tensor) -> torch.Tensor:
    return torch.cat([value.expand(n) for value, n in zip(values_B, LENGTHS, strict=True)])


@pytest.mark.parametrize("rewards_B", [torch.ones(6), REWARDS], ids=["sft", "rft and online rft"])
def test_likelihood_gradient_has_the_coefficient_1_or_whether_the_output_is_right(rewards_B: torch.Tensor) -> None:
    logits, logprobs = random_logprobs()
    ours = gradient_of_loss(logits, likelihood_token_loss(torch.cat(logprobs), spread(rewards_B.double())))
    theirs = gradient_of_eq_5(logits, logprobs, [r.double() for r in rewards_B])
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_dpo_coefficients_give_the_gradient_of_eq_12() -> None:
    beta = 0.3
    logits, logprobs = random_logprobs()
    references = [torch.randn(n, generator=GENERATOR, dtype=torch.float64) for n in LENGTHS]
    ratios_B = torch.stack([(a - b).mean() for a, b in zip(logprobs, references, strict=True)])
    # Groups of three: (right 0, wrong 1) and (right 5, wrong 3); completions 2 and 4 have no partner.
    objective = (functional.logsigmoid(beta * (ratios_B[0] - ratios_B[1])) + functional.logsigmoid(beta * (ratios_B[5] - ratios_B[3]))) / 2
    expected = torch.autograd.grad(objective, logits, retain_graph=True)[0]
    coefficients_B, losses_P = preference_coefficients(ratios_B.detach(), REWARDS, 3, beta)
    torch.testing.assert_close(
        gradient_of_loss(logits, likelihood_token_loss(torch.cat(logprobs), spread(coefficients_B))), expected, **TOLERANCE
    )
    assert -losses_P.mean().item() == pytest.approx(objective.item())
    assert coefficients_B[2] == coefficients_B[4] == 0
    # Eq. 14's coefficient, sigma(beta r- - beta r+), up to the factor beta and the number of pairs.
    eq_14 = torch.sigmoid(beta * ratios_B[1] - beta * ratios_B[0]).item()
    assert coefficients_B[0].item() == pytest.approx(beta * eq_14 * 6 / 2)
    assert coefficients_B[1].item() == -coefficients_B[0].item()


def test_without_a_pair_dpo_has_no_gradient() -> None:
    coefficients_B, losses_P = preference_coefficients(torch.randn(4), torch.tensor([1.0, 1.0, 0.0, 0.0]), 2, 0.1)
    assert coefficients_B.eq(0).all()
    assert len(losses_P) == 0


def test_on_policy_ppo_gradient_has_the_advantage_as_coefficient() -> None:
    logits, logprobs = random_logprobs()
    advantages = [torch.randn(n, generator=GENERATOR, dtype=torch.float64) for n in LENGTHS]
    flat = torch.cat(logprobs)
    ours = gradient_of_loss(logits, clipped_token_loss(torch.exp(flat - flat.detach()), torch.cat(advantages), 0.2, 0.2))
    torch.testing.assert_close(ours, gradient_of_eq_5(logits, logprobs, advantages), **TOLERANCE)


@pytest.mark.parametrize("supervision", ["outcome", "process"])
def test_on_policy_grpo_gradient_has_the_coefficient_of_eq_21(supervision: str) -> None:
    beta = 0.04
    logits, logprobs = random_logprobs()
    references = [torch.randn(n, generator=GENERATOR, dtype=torch.float64) - 2 for n in LENGTHS]
    lengths_B = torch.tensor(LENGTHS)
    if supervision == "outcome":
        advantages_BT = outcome_advantages(torch.rand(6, generator=GENERATOR), lengths_B, 3)
    else:
        ends = [[0, 2], [4], [1], [0, 1, 3], [0], [2, 5]]
        rewards = [torch.rand(len(row), generator=GENERATOR).tolist() for row in ends]
        advantages_BT = process_advantages(pad_steps(rewards, 0.0), pad_steps(ends, -1), lengths_B, 3)
    advantages = [advantages_BT[i, :n].double() for i, n in enumerate(LENGTHS)]
    flat = torch.cat(logprobs)
    ours = gradient_of_loss(
        logits, grpo_token_loss(flat, flat.detach(), torch.cat(references), torch.cat(advantages), **CLIP, kl_coef=beta)
    )
    eq_21 = [a + beta * (torch.exp(r - p.detach()) - 1) for a, r, p in zip(advantages, references, logprobs, strict=True)]
    torch.testing.assert_close(ours, gradient_of_eq_5(logits, logprobs, eq_21), **TOLERANCE)


def test_gae_equals_the_discounted_sum_of_td_errors() -> None:
    gamma, lam, lengths_B = 0.9, 0.8, torch.tensor([4, 2])
    rewards_BT, values_BT = torch.rand(2, 4, generator=GENERATOR), torch.rand(2, 4, generator=GENERATOR)
    advantages_BT, returns_BT = generalised_advantages(rewards_BT, values_BT, lengths_B, gamma, lam)
    for i, n in enumerate([4, 2]):
        after = [*values_BT[i, 1:n].tolist(), 0.0]
        deltas = [float(rewards_BT[i, t]) + gamma * after[t] - float(values_BT[i, t]) for t in range(n)]
        for t in range(n):
            expected = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:]))
            assert float(advantages_BT[i, t]) == pytest.approx(expected, abs=1e-6)
            assert float(returns_BT[i, t]) == pytest.approx(expected + float(values_BT[i, t]), abs=1e-6)
    assert advantages_BT[1, 2:].eq(0).all()


def test_with_gamma_and_lambda_1_gae_is_the_reward_to_come_less_the_value() -> None:
    rewards_BT, values_BT = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.5, 0.9]])
    advantages_BT, returns_BT = generalised_advantages(rewards_BT, values_BT, torch.tensor([3]), 1.0, 1.0)
    torch.testing.assert_close(advantages_BT, torch.tensor([[0.8, 0.5, 0.1]]))
    torch.testing.assert_close(returns_BT, torch.ones(1, 3))
