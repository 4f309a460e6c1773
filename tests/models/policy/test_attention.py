"""Attention by spans against attention with the equivalent mask, and its requirements on a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.attention import Spans, attends_by_spans, restore_attention, span_inputs, use_attention
from mathquarry.models.train.batches import stack
from mathquarry.models.train.fit import language_model_loss
from mathquarry.models.train.packing import Row, pack

CPU = torch.device("cpu")
SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}
BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=8)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None)),
    "gpt-neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.3
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0
        )
    ),
}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    return BUILDERS[name]()


@st.composite
def trees(draw: st.DrawFn) -> Spans:
    """Rows of one length, filled with spans; some see an earlier one that sees none."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    lengths: list[int] = []
    prefixes: list[int | None] = []
    for _ in range(rows):
        first, left = len(lengths), width
        while left:
            roots = [span for span in range(first, len(lengths)) if prefixes[span] is None]
            prefixes.append(draw(st.sampled_from([None, *roots])))
            lengths.append(draw(st.integers(1, left)))
            left -= lengths[-1]
    return Spans(lengths, prefixes, rows)


@given(trees())
@settings(max_examples=60, deadline=None)
def test_attention_by_spans_is_attention_under_their_mask(spans: Spans) -> None:
    """Equal up to rounding, in float64; with half as many key heads as query heads."""
    from mathquarry.models.policy.attention import _attend

    width = sum(spans.lengths) // spans.rows
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(spans.rows, heads, width, 4, generator=generator, dtype=torch.float64) for heads in (4, 2, 2))
    found, _ = _attend(torch.nn.Module(), query, key, value, None, spans=spans)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=spans.mask(CPU), enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(trees())
@settings(max_examples=60, deadline=None)
def test_a_kernel_for_sequences_of_any_length_is_given_the_keys_that_each_span_sees(spans: Spans) -> None:
    """The last query sees the last key, so query q of Q sees the first K - Q + q + 1 of its K keys: the mask says so row by row."""
    sequences = spans.sequences(CPU)
    mask_BTT = spans.mask(CPU)[:, 0]
    width = mask_BTT.shape[-1]
    places = torch.arange(sum(spans.lengths)) if sequences.key_places_K is None else sequences.key_places_K
    query_ends, key_ends = sequences.query_ends.tolist(), sequences.key_ends.tolist()
    for start, end, first, last in zip(query_ends[:-1], query_ends[1:], key_ends[:-1], key_ends[1:], strict=True):
        keys = places[first:last]
        for query in range(start, end):
            seen = keys[: len(keys) - (end - query) + 1]
            row, column = divmod(query, width)
            assert sorted((seen - row * width).tolist()) == mask_BTT[row, column].nonzero()[:, 0].tolist()
    assert sequences.longest_query == max(spans.lengths)
    assert sequences.longest_key == int(sequences.key_ends.diff().max())


def rows_of(lengths: list[int], context: int) -> list[Row]:
    rng = np.random.default_rng(0)
    examples = [rng.integers(3, 50, length) for length in lengths]
    packed = pack([(ids, ids) for ids in examples], context, seed=0)
    return [packed[place] for place in range(len(packed))]


def gradient(model: PreTrainedModel, rows: list[Row], bfloat16: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = language_model_loss(model, stack(rows), torch.tensor(50.0))
    loss.backward()
    return loss.detach(), torch.cat([weights.grad.flatten() for weights in model.parameters() if weights.grad is not None])


@pytest.mark.parametrize("name", BUILDERS)
def test_documents_attend_as_under_a_mask_in_every_kind_of_model(name: str) -> None:
    model, rows = build(name), rows_of([7, 1, 13, 2, 20, 9, 9], 24)
    expected, expected_gradient = gradient(model, rows)
    assert use_attention(model, "documents") == "sdpa"
    assert attends_by_spans(model)
    loss, found = gradient(model, rows)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, expected_gradient, rtol=1e-4, atol=1e-6)


def test_in_bfloat16_spans_and_mask_differ_by_no_more_than_bfloat16_does_from_float32() -> None:
    model, rows = build("llama"), rows_of([7, 1, 13, 2, 20, 9, 9], 24)
    _, exact = gradient(model, rows)
    _, masked = gradient(model, rows, bfloat16=True)
    use_attention(model, "documents")
    _, by_spans = gradient(model, rows, bfloat16=True)
    assert float((by_spans - exact).norm()) < 1.2 * float((masked - exact).norm())


def test_no_tensor_grows_with_the_square_of_a_row() -> None:
    from tests.models.logprobs.test_logprobs import LargestTensor

    model, rows = build("llama"), rows_of([16] * 64, 1024)
    with LargestTensor() as masked:
        gradient(model, rows)
    use_attention(model, "documents")
    with LargestTensor() as by_spans:
        gradient(model, rows)
    assert masked.elements >= 1024**2
    assert by_spans.elements <= 1024 * 50  # tokens times vocabulary


def test_activations_that_are_computed_again_attend_by_the_same_spans() -> None:
    model, rows = build("llama"), rows_of([7, 13, 4], 24)
    use_attention(model, "documents")
    expected, expected_gradient = gradient(model.train(), rows)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss, found = gradient(model, rows)
    assert torch.equal(loss, expected)
    assert torch.equal(found, expected_gradient)


def test_generation_is_as_before() -> None:
    model = build("llama").eval()
    prompt, mask = torch.tensor([[3, 4, 5, 6], [0, 0, 7, 8]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    expected = model.generate(prompt, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    use_attention(model, "documents")
    assert torch.equal(model.generate(prompt, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0), expected)


@pytest.mark.parametrize(
    "model",
    [
        lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=8)),
        lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=8, max_window_layers=1)),
        lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, sliding_window=8)),
    ],
)
def test_a_model_with_windows_keeps_its_own_attention(model: Callable[[], PreTrainedModel]) -> None:
    torch.manual_seed(1)
    windowed, rows = model(), rows_of([7, 1, 13, 2, 20], 24)
    expected, expected_gradient = gradient(windowed, rows)
    use_attention(windowed, "documents")
    assert not attends_by_spans(windowed)
    loss, found = gradient(windowed, rows)
    assert torch.equal(loss, expected)
    assert torch.equal(found, expected_gradient)


def test_attention_that_spans_cannot_express_is_refused() -> None:
    model = build("llama")
    use_attention(model, "documents")
    with pytest.raises(MathQuarryError, match="sliding_window.*attn_implementation to `sdpa`"):
        model(torch.tensor([[3, 4]]), use_cache=False, sliding_window=8, **span_inputs(Spans([1, 1]), CPU))


@pytest.mark.skipif(torch.cuda.is_available(), reason="FlashAttention may be installed here")
def test_flash_attention_that_is_not_installed_is_named() -> None:
    with pytest.raises(MathQuarryError, match="attn_implementation is `flash_attention_2`, which does not work here: .*FlashAttention2"):
        use_attention(build("llama"), "flash_attention_2")


def test_a_saved_model_does_not_remember_the_attention(tmp_path: Path) -> None:
    model = build("llama")
    before = use_attention(model, "documents")
    model.save_pretrained(tmp_path)
    assert "documents" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    restore_attention(model, before)
    assert not attends_by_spans(model)


def test_spans_that_a_model_does_not_pass_on_are_not_ignored() -> None:
    """A model whose blocks drop keyword arguments would compute something else, so it fails instead."""
    model = build("llama")
    use_attention(model, "documents")
    inputs = {name: value for name, value in span_inputs(Spans([2, 2]), CPU).items() if name != "spans"}
    with pytest.raises(RuntimeError):
        model(torch.tensor([[3, 4, 5, 6]]), use_cache=False, **inputs)
