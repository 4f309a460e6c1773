"""Every attention implementation against the dense one: packed sequences do not see each other, forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.utils import is_flash_attn_2_available

from mathquarry.models.policy.attention import use_attention
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience, sequence_logprobs, update_policy
from tests.cuda.shapes import completions_to_learn_from, small_llama
from tests.cuda.test_training import trained

EXPERIENCE = completions_to_learn_from(questions=2, group=3, longest=48)


def learned(attention: str, precision: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities of all completion tokens, gradient of one update), both on the CPU."""
    config = GRPOConfig(precision=precision, micro_batch_tokens=2048, kl_coef=0.0)
    policy = small_llama(0, device)
    if attention == "eager":
        policy.set_attn_implementation("eager")
    else:
        use_attention(policy, attention)
    logprobs_N = torch.cat(sequence_logprobs(policy, EXPERIENCE.prompts, EXPERIENCE.completions, config))
    before = torch.cat([weights.detach().flatten().cpu() for weights in policy.parameters()])
    experience = Experience(EXPERIENCE.prompts, EXPERIENCE.completions, EXPERIENCE.advantages_BT)
    update_policy(policy, policy, torch.optim.SGD(policy.parameters(), lr=1.0), experience, config)
    return logprobs_N, before - torch.cat([weights.detach().flatten().cpu() for weights in policy.parameters()])


@pytest.mark.parametrize("attention", ["documents", "sdpa", "flash_attention_2"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_attention_is_the_dense_one_but_for_rounding(attention: str, precision: str, device: torch.device) -> None:
    if attention == "flash_attention_2" and not (is_flash_attn_2_available() and precision == "bfloat16" and device.type == "cuda"):
        pytest.skip("FlashAttention's own package needs a GPU, half precision, and to be installed")
    (found_N, gradient), (dense_N, expected) = learned(attention, precision, device), learned("eager", "float32", device)
    exact = precision == "float32"
    assert float((found_N - dense_N).abs().mean()) < (1e-3 if exact else 0.03)
    assert float(torch.nn.functional.cosine_similarity(gradient, expected, dim=0)) > (0.9999 if exact else 0.99)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_supervised_rows_learn_the_same_with_and_without_masks(precision: str, device: torch.device, tmp_path: Path) -> None:
    losses = [trained(tmp_path / name, precision=precision, attn_implementation=name)[1] for name in ("documents", "sdpa")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4 if precision == "float32" else 0.01)
