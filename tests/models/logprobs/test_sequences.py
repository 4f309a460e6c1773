"""Every way to pack sequences into rows, against each sequence computed alone."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.logprobs.sequences import Arrangement, arrange, arrangement_of, lay_out, plan_micro_batches
from mathquarry.models.policy.attention import use_attention
from tests.models.rl.tiny import tiny_policy

GENERATOR = torch.Generator().manual_seed(5)
SOME = [torch.randint(3, 50, (length,), generator=GENERATOR).tolist() for length in (4, 9, 1)]
PROMPTS = [SOME[i] for i in (0, 0, 0, 1, 0, 1, 2, 2)]
COMPLETIONS = [torch.randint(3, 50, (length,), generator=GENERATOR).tolist() for length in (3, 7, 1, 5, 12, 2, 6, 4)]
CPU = torch.device("cpu")


def models() -> list[PreTrainedModel]:
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
    return [tiny_policy(0, 50), Qwen2ForCausalLM(qwen).eval(), GPT2LMHeadModel(gpt).eval()]


def alone(model: PreTrainedModel, temperature: float = 1.0) -> list[torch.Tensor]:
    """Log-probabilities of each completion from its own forward pass: no padding, a softmax over everything."""
    found = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        logits_TV = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].float() / temperature
        found.append(logits_TV.log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)])
    return found


@pytest.mark.parametrize("arrangement", ["spans", "shared", "packed", "padded"])
@pytest.mark.parametrize(("budget", "row"), [(1000, 1000), (40, 25), (1, 1), (60, 1000)])
def test_each_token_sees_in_a_row_what_it_sees_alone(arrangement: Arrangement, budget: int, row: int) -> None:
    for model in models():
        expected = alone(model, 0.7)
        use_attention(model, "documents" if arrangement == "spans" else "sdpa")
        batches = arrange(PROMPTS, COMPLETIONS, arrangement, budget, row, CPU)
        assert sorted(member for batch in batches for member in batch.members) == list(range(8))
        for batch in batches:
            found_N = completion_logprobs(model, batch, 0.7)
            expected_N = torch.cat([expected[member] for member in batch.members])
            torch.testing.assert_close(found_N, expected_N, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arrangement", ["spans", "shared", "packed", "padded"])
def test_gradients_do_not_depend_on_the_arrangement(arrangement: Arrangement) -> None:
    weights = [torch.rand(len(completion), generator=GENERATOR) for completion in COMPLETIONS]
    for model in models():
        parameters = list(model.parameters())
        expected = torch.autograd.grad(torch.stack([(a * b).sum() for a, b in zip(alone(model), weights, strict=True)]).sum(), parameters)
        use_attention(model, "documents" if arrangement == "spans" else "sdpa")
        batches = arrange(PROMPTS, COMPLETIONS, arrangement, 70, 50, CPU)
        loss = torch.stack(
            [(completion_logprobs(model, batch) * torch.cat([weights[member] for member in batch.members])).sum() for batch in batches]
        ).sum()
        for ours, theirs in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_prompt_is_computed_once_for_its_completions() -> None:
    batches = arrange(PROMPTS, COMPLETIONS, "shared", 1000, 1000, CPU)
    assert [batch.input_ids_BT.shape for batch in batches] == [(1, sum(map(len, SOME)) + sum(map(len, COMPLETIONS)))]


def test_a_family_that_outgrows_a_row_goes_on_in_another() -> None:
    batches = arrange([SOME[0]] * 6, [[7] * 10] * 6, "shared", 24, 24, CPU)
    assert [batch.input_ids_BT.shape for batch in batches] == [(1, 24)] * 3


def test_a_completion_without_tokens_has_no_log_probabilities() -> None:
    (batch,) = arrange([SOME[0], SOME[0]], [[], [5]], "shared", 100, 100, CPU)
    assert len(batch.token_N) == len(batch.predictor_N) == 1


def test_prompts_are_shared_only_where_attention_takes_spans_or_our_mask() -> None:
    plain, _, _ = models()
    assert arrangement_of(plain) == "shared"
    use_attention(plain, "documents")
    assert arrangement_of(plain) == "spans"
    plain.config._attn_implementation = "flash_attention_2"
    assert arrangement_of(plain) == "packed"
    windowed = Qwen2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, use_sliding_window=True, sliding_window=8)
    plain.config = windowed
    windowed._attn_implementation = "sdpa"
    assert arrangement_of(plain) == "padded"


def test_families_under_a_mask_have_rows_of_twice_the_hidden_size() -> None:
    model = tiny_policy(0, 50)
    long = 2 * model.config.hidden_size
    (batch,) = lay_out([SOME[0]] * 7, [[7] * ((long - 4) // 4)] * 7, model, 1000)
    assert batch.input_ids_BT.shape == (2, long)


def test_the_longest_come_first_and_fill_rows_to_the_last_token() -> None:
    """In any other order, and without exact fits, 4, 5, 6 and 5 tokens need three rows of 10."""
    batches = arrange([[1]] * 4, [[7] * 3, [7] * 4, [7] * 5, [7] * 4], "packed", 10, 10, CPU)
    assert [batch.input_ids_BT.shape for batch in batches] == [(1, 10)] * 2


def test_passes_keep_to_the_budget() -> None:
    model = tiny_policy(0, 50)
    for batch in lay_out(PROMPTS, COMPLETIONS, model, 30):
        assert batch.input_ids_BT.numel() <= 30


def test_micro_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = [7, 3, 12, 3, 40, 1, 8, 8]
    groups = plan_micro_batches(lengths, 24)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= 24
