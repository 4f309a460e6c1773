"""Token losses, gradient coefficients and token weights of the methods of paper section 5.2 and appendix A.1.

Every method's gradient is E[1/|o| sum_t GC(q, o, t) grad log pi(o_t | q, o_<t)] (Eq. 5). A batch's loss is sum(token_weight x token loss),
the weights being computed once for the whole optimizer step: how the step is cut into forward passes cannot change it.

Shape suffixes: B outputs, T tokens. Functions without a suffix work on tensors of any one shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def kl_estimate(logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """Eq. 4, the k3 estimator of KL(pi || pi_ref) at each sampled token: pi_ref / pi - log(pi_ref / pi) - 1, never negative."""
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def likelihood_token_loss(logprobs: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """-GC log pi: SFT (GC = 1), RFT and Online RFT (GC = reward, Eq. 10) and DPO (`preference_coefficients`)."""
    return -coefficients * logprobs


def clipped_token_loss(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, clip_range: float, clip_range_above: float | None = None
) -> torch.Tensor:
    """-min[rho A, clip(rho, 1 - eps, 1 + eps) A] with rho = pi / pi_old: PPO's objective (Eq. 15) and the first part of GRPO's (Eq. 3).

    `clip_range_above` is eps on the upper side, where it differs.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    above = clip_range if clip_range_above is None else clip_range_above
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip_range, 1 + above) * advantages)


def grpo_token_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    reference_logprobs: torch.Tensor | None,
    advantages: torch.Tensor,
    clip_range: float,
    kl_coef: float,
    clip_range_above: float | None = None,
    importance: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Minus the summand of Eq. 3 at each token: -(min[rho A, clip(rho, 1 - eps, 1 + eps) A] - beta KL), rho = pi / pi_old.

    Only `logprobs` carries a gradient. On policy (rho = 1) it is -GC x grad log pi with GC = A + beta (pi_ref / pi - 1) (Eq. 21).
    Without `reference_logprobs` there is no KL term; only right for beta = 0. `clip_range_above` and `importance`, a weight of the
    surrogate, are departures.
    """
    surrogate_loss = importance * clipped_token_loss(logprobs, old_logprobs, advantages, clip_range, clip_range_above)
    if reference_logprobs is None:
        return surrogate_loss
    return kl_coef * kl_estimate(logprobs, reference_logprobs) + surrogate_loss


def preference_coefficients(
    log_ratios_B: torch.Tensor, rewards_B: torch.Tensor, group_size: int, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO's gradient coefficients of outputs (Eq. 14) and the loss of each pair (Eq. 12).

    `log_ratios_B` are the means over an output's tokens of log(pi / pi_ref), `rewards_B` 1 for right and 0 for wrong outputs; the k-th
    right output of a group is paired with its k-th wrong one, the rest has no pair and coefficient 0. With x = log_ratio(o+) -
    log_ratio(o-), a pair's loss is -log sigmoid(beta x), and its gradient has the coefficients +-beta sigmoid(-beta x); Eq. 14 leaves the
    factor beta out. Coefficients are scaled by B / pairs, so that the mean over outputs, which is what token weights make, is the sum over
    a pair's two outputs, averaged over pairs. Eq. 12 prints o-_{<t} where o-_t is meant.
    """
    coefficients_B = torch.zeros_like(log_ratios_B)
    right, wrong = [], []
    for start in range(0, len(rewards_B), group_size):
        places = torch.arange(start, min(start + group_size, len(rewards_B)))
        good, bad = places[rewards_B[places] > 0.5], places[rewards_B[places] <= 0.5]
        pairs = min(len(good), len(bad))
        right.append(good[:pairs])
        wrong.append(bad[:pairs])
    right_P, wrong_P = torch.cat(right), torch.cat(wrong)
    margin_P = beta * (log_ratios_B[right_P] - log_ratios_B[wrong_P])
    if len(margin_P):
        scale_P = beta * torch.sigmoid(-margin_P) * (len(rewards_B) / len(margin_P))
        coefficients_B[right_P] = scale_P
        coefficients_B[wrong_P] = -scale_P
    return coefficients_B, -functional.logsigmoid(margin_P)


def generalised_advantages(
    rewards_BT: torch.Tensor, values_BT: torch.Tensor, lengths_B: torch.Tensor, discount: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """GAE (arXiv 1506.02438): A_t = sum_k (gamma lambda)^k delta_{t+k}, delta_t = r_t + gamma V_{t+1} - V_t; and the returns A_t + V_t.

    `values_BT[i, t]` is the value before token t of output i; after the last token it is 0. Both results are 0 beyond an output's end.
    """
    real_BT = torch.arange(rewards_BT.shape[1]) < lengths_B[:, None]
    values_BT = torch.where(real_BT, values_BT, 0.0)
    rewards_BT = torch.where(real_BT, rewards_BT, 0.0)
    advantages_BT = torch.zeros_like(values_BT)
    after_B = advantage_B = torch.zeros_like(values_BT[:, 0]) if values_BT.shape[1] else values_BT.sum(dim=1)
    for t in reversed(range(values_BT.shape[1])):
        advantage_B = rewards_BT[:, t] + discount * after_B - values_BT[:, t] + discount * gae_lambda * advantage_B
        advantages_BT[:, t] = advantage_B
        after_B = values_BT[:, t]
    return advantages_BT, advantages_BT + values_BT


def token_weights(lengths: Sequence[int]) -> list[float]:
    """Weight of each token of each output of one optimizer step: 1 / (outputs x |o_i|), Eq. 3's mean over outputs of means over tokens.

    Outputs without tokens count as outputs and weigh nothing.
    """
    return [1 / (len(lengths) * length) if length else 0.0 for length in lengths]


def token_mean_weights(lengths: Sequence[int]) -> list[float]:
    """Weights of DAPO (arXiv 2503.14476): every token of the step weighs the same, so long outputs weigh more."""
    return [1 / max(1, sum(lengths))] * len(lengths)


def constant_weights(lengths: Sequence[int], max_tokens: int) -> list[float]:
    """Weights of Dr. GRPO (arXiv 2503.20783): 1 / (outputs x longest allowed output), so a length does not scale its output's gradient."""
    return [1 / (len(lengths) * max_tokens)] * len(lengths)
