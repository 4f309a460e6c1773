"""The transformers engine: its samples follow the model's distribution, however the batch is split."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Progress
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import Completion, end_tokens
from mathquarry.models.rollout.hf import TransformersEngine, forced_logprobs
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.probe import check

END = 1


def tiny_llama(seed: int = 0, *, kv_heads: int = 2, context: int = 128, ends: int | list[int] = END) -> PreTrainedModel:
    """Random weights, sharp enough that greedy choices are clear, and an end token that occurs now and then."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=ends,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    return model


def some_prompts(count: int, shortest: int = 1, longest: int = 12) -> list[list[int]]:
    chooser = random.Random(7)
    return [[chooser.randrange(2, 32) for _ in range(chooser.randint(shortest, longest))] for _ in range(count)]


def engine_of(model: PreTrainedModel, batch_completions: int = 512) -> TransformersEngine:
    return TransformersEngine(RolloutConfig(batch_completions=batch_completions), model)


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


@pytest.mark.parametrize("model", [tiny_llama(), tiny_llama(kv_heads=4, ends=[1, 5])])
def test_greedy_completions_are_those_of_generate(model: PreTrainedModel) -> None:
    prompts = some_prompts(12)
    groups = engine_of(model).generate(prompts, n=1, temperature=0.0, max_tokens=30, seeds=[0] * 12)
    for prompt, (completion,) in zip(prompts, groups, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=30, pad_token_id=0
        )[0, len(prompt) :].tolist()
        assert completion.tokens == expected
        assert completion.finished == (expected[-1] in end_tokens(model.config))


def test_greedy_repeats_its_one_answer_n_times() -> None:
    (group,) = engine_of(tiny_llama()).generate([[3, 4]], n=3, temperature=0.0, max_tokens=5, seeds=[0])
    assert len(group) == 3
    assert group[0] == group[1] == group[2]


def test_a_model_with_sliding_window_attention_generates_what_generate_does() -> None:
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=6,
        max_window_layers=1,
        eos_token_id=END,
    )
    model = Qwen2ForCausalLM(config).eval()
    assert set(model.config.layer_types) == {"full_attention", "sliding_attention"}
    prompts = some_prompts(5)
    groups = engine_of(model).generate(prompts, n=1, temperature=0.0, max_tokens=20, seeds=[0] * 5)
    for prompt, (completion,) in zip(prompts, groups, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0)
        assert completion.tokens == expected[0, len(prompt) :].tolist()


def test_samples_do_not_depend_on_the_batch_they_were_in() -> None:
    model, prompts, seeds = tiny_llama(), some_prompts(9), list(range(9))
    options = {"n": 5, "temperature": 1.0, "max_tokens": 24}
    whole = engine_of(model).generate(prompts, seeds=seeds, **options)
    for cut in (1, 3, 7):
        assert [o.tokens for o in flat(engine_of(model, cut).generate(prompts, seeds=seeds, **options))] == [o.tokens for o in flat(whole)]
    alone = engine_of(model).generate(prompts[4:5], seeds=seeds[4:5], **options)
    assert [o.tokens for o in alone[0]] == [o.tokens for o in whole[4]]
    assert 0 < sum(completion.finished for completion in flat(whole)) < 45  # some left their batch before the others
    assert [o.logprobs for o in alone[0]] == [pytest.approx(o.logprobs, abs=1e-5) for o in whole[4]]


def test_a_longer_limit_only_continues_an_unfinished_sample() -> None:
    model, prompts = tiny_llama(), some_prompts(4)
    short = flat(engine_of(model).generate(prompts, n=4, temperature=1.0, max_tokens=6, seeds=[1, 2, 3, 4]))
    long = flat(engine_of(model).generate(prompts, n=4, temperature=1.0, max_tokens=40, seeds=[1, 2, 3, 4]))
    assert [o.tokens for o in short] == [o.tokens[:6] for o in long]
    assert any(not o.finished for o in short)


def test_samples_of_a_prompt_and_of_two_seeds_differ() -> None:
    groups = engine_of(tiny_llama()).generate([[3, 4], [3, 4]], n=8, temperature=1.0, max_tokens=30, seeds=[0, 1])
    assert len({tuple(completion.tokens) for completion in flat(groups)}) > 12


def test_first_tokens_follow_the_models_distribution() -> None:
    model, draws = tiny_llama(3), 20_000
    model.lm_head.weight.data.mul_(0.25)  # flatter, so that many tokens are likely enough to count
    (group,) = engine_of(model, 5000).generate([[4, 9, 2]], n=draws, temperature=0.8, max_tokens=1, seeds=[11])
    expected = torch.softmax(model(torch.tensor([[4, 9, 2]])).logits[0, -1] / 0.8, dim=-1)
    counts = Counter(completion.tokens[0] for completion in group)
    chi_square = sum((counts[token] - draws * p) ** 2 / (draws * p) for token, p in enumerate(expected.tolist()) if draws * p > 5)
    likely = sum(1 for p in expected.tolist() if draws * p > 5)
    assert likely > 10
    assert chi_square < likely + 5 * (2 * likely) ** 0.5


def test_one_seed_gives_independent_tokens_at_successive_positions() -> None:
    """With a flat model the tokens are the uniforms: neighbours must not be correlated."""
    model = tiny_llama()
    model.lm_head.weight.data.zero_()
    (group,) = engine_of(model).generate([[3]], n=400, temperature=1.0, max_tokens=20, seeds=[5])
    pairs = torch.tensor(
        [pair for completion in group for pair in zip(completion.tokens, completion.tokens[1:], strict=False)], dtype=torch.float
    )
    assert abs(float(torch.corrcoef(pairs.T)[0, 1])) < 0.06


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_logprobs_are_those_of_the_model_at_the_sampling_temperature(temperature: float) -> None:
    model, prompts = tiny_llama(), some_prompts(6)
    groups = engine_of(model).generate(prompts, n=4, temperature=temperature, max_tokens=20, seeds=list(range(6)))
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            forced = forced_logprobs(model, prompt, completion.tokens, temperature)
            assert completion.logprobs == pytest.approx(forced, abs=1e-4)


def test_teacher_forced_logprobs_are_at_temperature_one() -> None:
    model, prompts = tiny_llama(), some_prompts(3)
    groups = engine_of(model).generate(prompts, n=1, temperature=0.0, max_tokens=8, seeds=[0] * 3)
    forced = engine_of(model).logprobs(prompts, [group[0].tokens for group in groups])
    for group, logprobs in zip(groups, forced, strict=True):
        assert logprobs == pytest.approx(group[0].logprobs, abs=1e-4)


def test_completions_end_at_the_end_token_the_limit_or_the_context() -> None:
    model = tiny_llama(context=20)
    prompts = some_prompts(6, shortest=15, longest=19)
    groups = engine_of(model).generate(prompts, n=6, temperature=1.0, max_tokens=50, seeds=list(range(6)))
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            assert (END in completion.tokens) == completion.finished
            assert END not in completion.tokens[:-1]
            assert completion.finished or len(prompt) + len(completion.tokens) == 20
            assert len(completion.tokens) == len(completion.logprobs)


def test_a_prompt_longer_than_the_context_is_named_with_the_limit() -> None:
    with pytest.raises(MathQuarryError, match=r"prompt 1 has 25 tokens.* context is 20 tokens"):
        engine_of(tiny_llama(context=20)).generate([[3], [3] * 25], n=1, temperature=1.0, max_tokens=4, seeds=[0, 1])


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(MathQuarryError, match="prompt 0 is empty"):
        engine_of(tiny_llama()).generate([[]], n=1, temperature=1.0, max_tokens=4, seeds=[0])


def test_a_model_without_an_end_token_is_refused() -> None:
    model = tiny_llama()
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    with pytest.raises(MathQuarryError, match="eos_token_id"):
        engine_of(model).generate([[3]], n=1, temperature=1.0, max_tokens=4, seeds=[0])


def test_no_prompts_give_no_completions() -> None:
    assert engine_of(tiny_llama()).generate([], n=4, temperature=1.0, max_tokens=4, seeds=[]) == []


def test_progress_counts_every_completion() -> None:
    with Progress().track("rollout", 12) as bar:
        engine_of(tiny_llama(), 5).generate(some_prompts(4), n=2, temperature=1.0, max_tokens=4, seeds=[0] * 4, progress=bar)
        engine_of(tiny_llama()).generate(some_prompts(4), n=1, temperature=0.0, max_tokens=4, seeds=[0] * 4, progress=bar)
        assert bar.done == 12


def test_generating_leaves_a_live_model_in_training_mode_and_sees_its_new_weights() -> None:
    model = tiny_llama().train()
    engine = make_engine(RolloutConfig(), Path("unused"), live_model=model)
    before = engine.generate([[3, 4]], n=4, temperature=1.0, max_tokens=10, seeds=[0])
    assert model.training
    model.load_state_dict(tiny_llama(seed=9).state_dict())
    after = engine.generate([[3, 4]], n=4, temperature=1.0, max_tokens=10, seeds=[0])
    assert before != after
    model(torch.tensor([[3, 4]]), labels=torch.tensor([[3, 4]])).loss.backward()


def test_load_takes_the_weights_of_a_folder(tmp_path: Path) -> None:
    other = tiny_llama(seed=9)
    other.save_pretrained(tmp_path)
    engine = engine_of(tiny_llama())
    engine.load(tmp_path, "other")
    options = {"n": 2, "temperature": 1.0, "max_tokens": 10, "seeds": [0]}
    assert engine.generate([[3, 4]], **options) == engine_of(other).generate([[3, 4]], **options)


def test_a_missing_vllm_is_named_with_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mathquarry.models.rollout.vllm", raising=False)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MathQuarryError, match="make vllm"):
        make_engine(RolloutConfig(engine="vllm"), tmp_path)


def test_the_probe_passes_when_engine_and_trainer_hold_the_same_weights() -> None:
    model = tiny_llama().train()
    found = check(engine_of(model), model, some_prompts(4), temperature=0.7, tolerance=1e-3, version="step 3")
    assert found.mean <= found.largest < 1e-3
    assert found.tokens > 4
    assert model.training


def test_the_probe_stops_a_run_whose_engine_has_other_weights() -> None:
    with pytest.raises(MathQuarryError, match=r"sync to step 3.*probe_tolerance is 0\.05.*head.*prefix cache.*temperature"):
        check(engine_of(tiny_llama()), tiny_llama(9), some_prompts(4), temperature=1.0, tolerance=0.05, version="step 3")


def test_the_probe_finds_logprobs_that_ignore_the_temperature() -> None:
    class Raw(TransformersEngine):
        def generate(self, prompts, **options):  # type: ignore[no-untyped-def]
            groups = super().generate(prompts, **options)
            for prompt, group in zip(prompts, groups, strict=True):
                group[0].logprobs = forced_logprobs(self.model, prompt, group[0].tokens)
            return groups

    model = tiny_llama()
    with pytest.raises(MathQuarryError, match="disagree"):
        check(Raw(RolloutConfig(), model), model, some_prompts(4), temperature=0.7, tolerance=0.05, version="step 3")


def test_the_probe_fails_on_numbers_that_are_none() -> None:
    model = tiny_llama()
    broken = tiny_llama()
    broken.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(MathQuarryError, match="nan"):
        check(engine_of(model), broken, some_prompts(2), temperature=1.0, tolerance=0.05, version="step 3")
