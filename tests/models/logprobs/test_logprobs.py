"""Chunked log-probabilities of completions against a plain softmax over all logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mathquarry.models.logprobs.head import head_logprobs
from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.logprobs.sequences import arrange
from mathquarry.models.ranks.distributed import freeze
from mathquarry.models.reward.model import token_logits
from tests.models.rl.tiny import tiny_policy, tiny_reward_model

CHUNKS = [1, 300 * 3, 1 << 24]


def plain_logprobs(hidden_ND: torch.Tensor, head: nn.Linear, targets_N: torch.Tensor, temperature: float) -> torch.Tensor:
    return (head(hidden_ND) / temperature).log_softmax(-1)[torch.arange(len(targets_N)), targets_N]


def gradients(logprobs_N: torch.Tensor, hidden_ND: torch.Tensor, head: nn.Linear) -> tuple[torch.Tensor, ...]:
    weights_N = torch.linspace(-1, 2, len(logprobs_N), dtype=logprobs_N.dtype)
    return torch.autograd.grad((weights_N * logprobs_N).sum(), [hidden_ND, *head.parameters()])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_logits", CHUNKS)
def test_in_float64_chunks_give_the_plain_values_and_gradients(chunk_logits: int, temperature: float, bias: bool) -> None:
    torch.manual_seed(0)
    head = nn.Linear(16, 300, bias=bias).double()
    hidden_ND, targets_N = torch.randn(10, 16, dtype=torch.float64, requires_grad=True), torch.randint(0, 300, (10,))
    chunked_N = head_logprobs(hidden_ND, head, targets_N, temperature, chunk_logits)
    plain_N = plain_logprobs(hidden_ND, head, targets_N, temperature)
    torch.testing.assert_close(chunked_N, plain_N, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(chunked_N, hidden_ND, head), gradients(plain_N, hidden_ND, head), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_logits", CHUNKS)
def test_a_bfloat16_head_gives_the_float32_values_and_gradients_of_its_weights(chunk_logits: int) -> None:
    torch.manual_seed(0)
    head = nn.Linear(16, 300).bfloat16()
    wide = nn.Linear(16, 300)
    wide.load_state_dict(head.state_dict())
    hidden_ND, targets_N = torch.randn(10, 16, dtype=torch.bfloat16, requires_grad=True), torch.randint(0, 300, (10,))
    wide_ND = hidden_ND.detach().float().requires_grad_()
    chunked_N = head_logprobs(hidden_ND, head, targets_N, 1.0, chunk_logits)
    plain_N = plain_logprobs(wide_ND, wide, targets_N, 1.0)
    assert chunked_N.dtype == torch.float32
    torch.testing.assert_close(chunked_N, plain_N, rtol=0, atol=1e-5)
    for ours, theirs in zip(gradients(chunked_N, hidden_ND, head), gradients(plain_N, wide_ND, wide), strict=True):
        # Each element is rounded to bfloat16 once, at the end, however many chunks there were.
        torch.testing.assert_close(ours.float(), theirs, rtol=2**-8, atol=1e-6)


def test_many_chunks_add_up_the_head_gradient_in_float32() -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 50, bias=False).bfloat16()
    hidden_ND, targets_N = torch.randn(4000, 8, dtype=torch.bfloat16), torch.randint(0, 50, (4000,))
    (many,) = torch.autograd.grad(head_logprobs(hidden_ND, head, targets_N, 1.0, 50).sum(), [head.weight])
    (one,) = torch.autograd.grad(head_logprobs(hidden_ND, head, targets_N, 1.0, 50 * 4000).sum(), [head.weight])
    # In bfloat16, sums of 4000 terms would be off by several percent.
    torch.testing.assert_close(many.float(), one.float(), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("vocabulary", [300, 20_000])
@pytest.mark.parametrize("chunk_logits", CHUNKS)
def test_under_autocast_the_factors_of_the_head_are_bfloat16_and_sums_float32(chunk_logits: int, vocabulary: int) -> None:
    torch.manual_seed(0)
    head, rounded = nn.Linear(16, vocabulary), nn.Linear(16, vocabulary)
    rounded.load_state_dict({name: weight.bfloat16() for name, weight in head.state_dict().items()})
    hidden_ND, targets_N = torch.randn(4, 16, requires_grad=True), torch.randint(0, vocabulary, (4,))
    rounded_ND = hidden_ND.detach().bfloat16().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logprobs_N = head_logprobs(hidden_ND, head, targets_N, 1.0, chunk_logits)
    assert logprobs_N.dtype == torch.float32
    plain_N = plain_logprobs(rounded_ND, rounded, targets_N, 1.0)
    torch.testing.assert_close(logprobs_N, plain_N, rtol=0, atol=1e-5)
    for ours, theirs in zip(gradients(logprobs_N, hidden_ND, head), gradients(plain_N, rounded_ND, rounded), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-4)


def test_a_frozen_model_has_the_values_of_the_float32_one_under_autocast_to_the_last_bit() -> None:
    (batch,) = arrange([[5, 6, 7]] * 3, [[20, 21], [22], [30, 31, 32]], "shared", 100, 100, torch.device("cpu"))
    policy, frozen = tiny_policy(), freeze(tiny_policy(), "bfloat16")
    kinds = {name: weight.dtype for name, weight in frozen.named_parameters()}
    assert kinds["model.embed_tokens.weight"] == kinds["model.norm.weight"] == torch.float32
    assert kinds["lm_head.weight"] == kinds["model.layers.0.mlp.up_proj.weight"] == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert completion_logprobs(frozen, batch).tolist() == completion_logprobs(policy, batch).tolist()
    reward_model, frozen_reward = tiny_reward_model(), freeze(tiny_reward_model(), "bfloat16")
    inputs, places_N = batch.model_inputs(), batch.token_N
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert token_logits(frozen_reward, inputs, places_N).tolist() == token_logits(reward_model, inputs, places_N).tolist()
    assert frozen_reward.score.weight.dtype == torch.float32


def test_a_frozen_model_of_float32_passes_stays_float32() -> None:
    frozen = freeze(tiny_policy(), "float32")
    assert {weight.dtype for weight in frozen.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in frozen.parameters())


def test_only_the_hidden_states_of_what_needs_a_gradient_get_one() -> None:
    head = nn.Linear(16, 300).requires_grad_(False)
    hidden_ND, targets_N = torch.randn(4, 16, requires_grad=True), torch.randint(0, 300, (4,))
    head_logprobs(hidden_ND, head, targets_N).sum().backward()
    assert hidden_ND.grad is not None
    assert head.weight.grad is None


class LargestTensor(TorchDispatchMode):
    """Records the most elements of any tensor that an operation made, in the forward and the backward pass."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_no_tensor_of_tokens_times_vocabulary_is_ever_made() -> None:
    vocabulary, chunk_logits = 5000, 5000 * 4
    model = tiny_policy(0, vocabulary)
    prompts, completions = [[5, 6, 7]] * 8, [list(range(100, 120))] * 8
    (batch,) = arrange(prompts, completions, "shared", 1000, 1000, torch.device("cpu"))
    with LargestTensor() as largest:
        hidden_BTD = model.base_model(**batch.model_inputs(), use_cache=False).last_hidden_state
        hidden_ND = hidden_BTD.flatten(0, 1)[batch.predictor_N]
        targets_N = batch.input_ids_BT.flatten()[batch.token_N]
        head_logprobs(hidden_ND, model.get_output_embeddings(), targets_N, 1.0, chunk_logits).sum().backward()
    weights = model.get_output_embeddings().weight.numel()
    assert largest.elements <= max(weights, chunk_logits) < 160 * vocabulary
    with LargestTensor() as plain:
        model(**batch.model_inputs(), use_cache=False)
    assert plain.elements >= 160 * vocabulary


def test_output_logprobs_have_the_gradient_of_the_whole_model() -> None:
    model = tiny_policy()
    (batch,) = arrange([[5, 6, 7]], [[20, 21]], "shared", 100, 100, torch.device("cpu"))
    completion_logprobs(model, batch).sum().backward()
    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in model.parameters())
