"""Chunked log-probabilities of outputs against a plain softmax over all logits."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from models.rl.logprobs import SequenceBatch, head_logprobs, output_logprobs
from tests.models.rl.tiny import tiny_policy

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
OUTPUTS = [[20, 21], [22, 23, 24, 25, 1], [26]]


def plain_logprobs(model: PreTrainedModel, temperature: float = 1.0) -> torch.Tensor:
    """One sequence at a time, no padding, softmax over everything."""
    values = []
    for prompt, output in zip(PROMPTS, OUTPUTS, strict=True):
        logits = model(torch.tensor([prompt + output])).logits[0].float() / temperature
        values += [logits[len(prompt) + t - 1].log_softmax(-1)[token] for t, token in enumerate(output)]
    return torch.stack(values)


def other_architectures() -> list[PreTrainedModel]:
    torch.manual_seed(3)
    qwen = Qwen2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    gpt = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3)
    return [Qwen2ForCausalLM(qwen).eval(), GPT2LMHeadModel(gpt).eval()]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_padded_output_logprobs_equal_the_softmax_of_each_sequence_alone(temperature: float) -> None:
    for model in [tiny_policy(), *other_architectures()]:
        batch = SequenceBatch.pad(PROMPTS, OUTPUTS, torch.device("cpu"))
        torch.testing.assert_close(output_logprobs(model, batch, temperature), plain_logprobs(model, temperature), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk_logits", [1, 300 * 3, 1 << 26])
def test_chunks_change_neither_values_nor_gradients(chunk_logits: int) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 300)
    hidden_ND, targets_N, weights_N = torch.randn(10, 16, requires_grad=True), torch.randint(0, 300, (10,)), torch.rand(10)
    chunked_N = head_logprobs(hidden_ND, head, targets_N, 1.0, chunk_logits)
    plain_N = head(hidden_ND).log_softmax(-1)[torch.arange(10), targets_N]
    torch.testing.assert_close(chunked_N, plain_N)
    inputs = [hidden_ND, head.weight, head.bias]
    chunked = torch.autograd.grad((weights_N * chunked_N).sum(), inputs)
    plain = torch.autograd.grad((weights_N * plain_N).sum(), inputs)
    for ours, theirs in zip(chunked, plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_head_stays_float32_under_autocast() -> None:
    head = torch.nn.Linear(16, 300)
    hidden_ND, targets_N = torch.randn(4, 16), torch.randint(0, 300, (4,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logprobs_N = head_logprobs(hidden_ND, head, targets_N)
    assert logprobs_N.dtype == torch.float32
    torch.testing.assert_close(logprobs_N, head_logprobs(hidden_ND, head, targets_N))
