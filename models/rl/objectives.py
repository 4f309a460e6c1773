"""The GRPO objective as a loss of each token (paper Eq. 3 and 4), and the weights that make tokens a loss.

All functions work on tensors of any one shape. A batch's loss is sum(token_weight x token loss), the weights being computed once for the
whole optimizer step: how the step is cut into forward passes cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def kl_estimate(logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """Eq. 4, the k3 estimator of KL(pi || pi_ref) at each sampled token: pi_ref / pi - log(pi_ref / pi) - 1, never negative."""
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def grpo_token_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    reference_logprobs: torch.Tensor | None,
    advantages: torch.Tensor,
    clip_range: float,
    kl_coef: float,
) -> torch.Tensor:
    """Minus the summand of Eq. 3 at each token: -(min[rho A, clip(rho, 1 - eps, 1 + eps) A] - beta KL), rho = pi / pi_old.

    Only `logprobs` carries a gradient. On policy (rho = 1) it is -GC x grad log pi with GC = A + beta (pi_ref / pi - 1) (Eq. 21).
    Without `reference_logprobs` there is no KL term; only right for beta = 0.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages)
    if reference_logprobs is None:
        return -surrogate
    return kl_coef * kl_estimate(logprobs, reference_logprobs) - surrogate


def token_weights(lengths: Sequence[int]) -> list[float]:
    """Weight of each token of each output of one optimizer step: 1 / (outputs x |o_i|), Eq. 3's mean over outputs of means over tokens.

    Outputs without tokens count as outputs and weigh nothing.
    """
    return [1 / (len(lengths) * length) if length else 0.0 for length in lengths]
