"""Token losses, gradient coefficients and token weights of the methods of paper section 5.2 and appendix A.1.

Every method has the gradient E[1/|o| sum_t GC(q, o, t) grad log pi(o_t | q, o_<t)] (Eq. 5). The loss of a batch is
sum(token_weight x token loss). Weights are computed once for the whole optimizer step, so splitting the step into forward passes does not
change it.

Shape suffixes: B completions, T tokens. Functions without suffixes work on tensors of any equal shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from mathquarry.models.rl.config import EngineMask, LossNormalisation, Surrogate


def kl_estimate(logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """Return the k3 estimator of KL(pi || pi_ref) at each sampled token (Eq. 4): pi_ref / pi - log(pi_ref / pi) - 1, never negative."""
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def likelihood_token_loss(logprobs: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """-GC log pi: SFT (GC = 1), RFT and Online RFT (GC = reward, Eq. 10) and DPO (`preference_coefficients`)."""
    return -coefficients * logprobs


def policy_ratios(logprobs_N: torch.Tensor, old_logprobs_N: torch.Tensor, lengths: Sequence[int] | None = None) -> torch.Tensor:
    """Return rho = pi / pi_old at each token. With `lengths`, the lengths of consecutive sequences in N, each sequence has one ratio.

    A sequence's ratio is the geometric mean over its tokens (GSPO, arXiv 2507.18071). Its gradient at a token is that of the token's
    own log-probability (GSPO-token in the same paper). If a sequence has one advantage, this is GSPO's gradient; if its tokens have
    different advantages, as with process rewards, each token keeps its own.
    """
    if lengths is None:
        return torch.exp(logprobs_N - old_logprobs_N)
    means = [row.mean().expand(len(row)) for row in (logprobs_N - old_logprobs_N).detach().split(list(lengths))]
    return torch.exp(torch.cat(means) + logprobs_N - logprobs_N.detach())


def clipped_token_loss(ratios: torch.Tensor, advantages: torch.Tensor, clip_low: float, clip_high: float) -> torch.Tensor:
    """Return -min[rho A, clip(rho, 1 - eps_low, 1 + eps_high) A]: PPO's objective (Eq. 15) and the first part of GRPO's (Eq. 3)."""
    return -torch.minimum(ratios * advantages, ratios.clamp(1 - clip_low, 1 + clip_high) * advantages)


def cispo_token_loss(
    ratios: torch.Tensor, logprobs: torch.Tensor, advantages: torch.Tensor, clip_low: float, clip_high: float
) -> torch.Tensor:
    """Return -sg[clip(rho, 1 - eps_low, 1 + eps_high)] A log pi (CISPO, arXiv 2506.13585). The ratio is a weight without a gradient, so
    every token has a gradient."""
    return -ratios.detach().clamp(1 - clip_low, 1 + clip_high) * advantages * logprobs


def grpo_token_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    reference_logprobs: torch.Tensor | None,
    advantages: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
    surrogate: Surrogate = "clip",
    lengths: Sequence[int] | None = None,
    importance: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return minus the summand of Eq. 3 at each token: -(min[rho A, clip(rho, 1 - eps, 1 + eps) A] - beta KL), rho = pi / pi_old.

    Only `logprobs` has a gradient. On policy (rho = 1) it is -GC x grad log pi with GC = A + beta (pi_ref / pi - 1) (Eq. 21). Without
    `reference_logprobs` there is no KL term; use this only if the loss has none. The last three arguments are not in the paper:
    `surrogate`, `lengths` (of sequences, see `policy_ratios`), and `importance`, a weight of the surrogate.
    """
    ratios = policy_ratios(logprobs, old_logprobs, lengths)
    if surrogate == "cispo":
        loss = cispo_token_loss(ratios, logprobs, advantages, clip_low, clip_high)
    else:
        loss = clipped_token_loss(ratios, advantages, clip_low, clip_high)
    if importance is not None:
        loss = importance * loss
    return loss if reference_logprobs is None else kl_coef * kl_estimate(logprobs, reference_logprobs) + loss


def engine_weights(
    old_logprobs_N: torch.Tensor,
    engine_logprobs_N: torch.Tensor,
    lengths: Sequence[int],
    cap: float | None,
    mask: EngineMask,
    bounds: tuple[float, float],
) -> torch.Tensor:
    """Return the weight of each token that corrects for the engine's different sampling distribution, from pi_old / pi_engine.

    With a `cap`, a token has weight min(ratio, cap), truncated importance sampling; without one, 1. A `mask` gives weight 0 to `tokens`
    whose ratio is out of `bounds` (IcePop, arXiv 2510.18855), or to all tokens of `sequences` whose ratio, the product over their tokens,
    is out of bounds (TRL's `sequence_mask`). `lengths` are those of consecutive sequences in N.
    """
    gap_N = old_logprobs_N - engine_logprobs_N
    weights_N = torch.ones_like(gap_N) if cap is None else torch.exp(gap_N).clamp(max=cap)
    if mask == "none":
        return weights_N
    if mask == "sequences":
        gap_N = torch.cat([row.sum().expand(len(row)) for row in gap_N.split(list(lengths))])
    ratio_N = torch.exp(gap_N)
    return torch.where((ratio_N >= bounds[0]) & (ratio_N <= bounds[1]), weights_N, 0.0)


def preference_coefficients(
    log_ratios_B: torch.Tensor, rewards_B: torch.Tensor, group_size: int, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return DPO's gradient coefficient of each completion (Eq. 14) and the loss of each pair (Eq. 12).

    `log_ratios_B` are means over a completion's tokens of log(pi / pi_ref); `rewards_B` are 1 for correct and 0 for wrong completions. The
    k-th correct completion of a group is paired with its k-th wrong one. Completions without a partner have coefficient 0. With
    x = log_ratio(o+) - log_ratio(o-), a pair's loss is -log sigmoid(beta x), and its gradient has the coefficients
    +-beta sigmoid(-beta x); Eq. 14 omits the factor beta. Coefficients are scaled by B / pairs: token weights average over completions, and
    the loss must be a sum over a pair's two completions, averaged over pairs. Eq. 12 has o-_{<t} where it should have o-_t.
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

    `values_BT[i, t]` is the value before token t of completion i. After the last token it is 0. Both results are 0 after a completion's
    end.
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


def token_weights(lengths: Sequence[int], normalisation: LossNormalisation = "sequence", max_tokens: int = 1) -> list[float]:
    """Return the weight of each token of each completion in one optimizer step.

    `sequence`: 1 / (completions x |o_i|), Eq. 3's mean over completions of means over tokens. `tokens`: 1 / all tokens of the step, so long
    completions have more weight (DAPO, arXiv 2503.14476). `constant`: 1 / (completions x `max_tokens`), so the length of a completion does
    not scale its gradient (Dr. GRPO, arXiv 2503.20783). Completions without tokens count as completions, with weight 0.
    """
    if normalisation == "tokens":
        return [1 / max(1, sum(lengths))] * len(lengths)
    if normalisation == "constant":
        return [1 / (len(lengths) * max_tokens)] * len(lengths)
    return [1 / (len(lengths) * length) if length else 0.0 for length in lengths]
