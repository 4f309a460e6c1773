"""The vLLM engine against the transformers engine, and the three silent failures of a weight sync."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Progress
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rl.advantages import outcome_advantages
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience, make_optimizer, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.probe import check
from mathquarry.models.rollout.weight_check import check_weights

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

CONFIG = RolloutConfig(engine="vllm", kv_cache_gib=0.1, batch_completions=64)
TIGHT = 1e-4


def tiny_llama(seed: int, *, tied: bool = False) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


chooser = random.Random(3)
# Longer than a block of the prefix cache, so that keys and values of whole blocks are kept.
PROMPTS = [[chooser.randrange(2, 64) for _ in range(chooser.randint(40, 90))] for _ in range(6)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutEngine]:
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("start")
    tiny_llama(0).save_pretrained(folder)
    threads, setter = torch.get_num_threads(), torch.set_num_threads
    made = make_engine(CONFIG, folder)
    assert torch.set_num_threads is setter
    assert torch.get_num_threads() == threads
    yield made
    made.close()
    assert not torch.distributed.is_initialized()


def agree(engine: RolloutEngine, model: PreTrainedModel) -> float:
    return check(engine, model, PROMPTS, temperature=0.7, tolerance=TIGHT, version="test").mean


def test_greedy_completions_and_logprobs_equal_the_transformers_engines(engine: RolloutEngine) -> None:
    model = tiny_llama(1)
    engine.load_live(model, "one")
    reference = TransformersEngine(CONFIG, model)
    options = {"n": 2, "temperature": 0.0, "max_tokens": 24, "seeds": [0] * len(PROMPTS)}
    for ours, theirs in zip(engine.generate(PROMPTS, **options), reference.generate(PROMPTS, **options), strict=True):
        assert [completion.tokens for completion in ours] == [completion.tokens for completion in theirs]
        assert [completion.finished for completion in ours] == [completion.finished for completion in theirs]
        assert ours[0].logprobs == pytest.approx(theirs[0].logprobs, abs=TIGHT)


def test_teacher_forced_logprobs_equal_the_transformers_engines(engine: RolloutEngine) -> None:
    model = tiny_llama(2)
    engine.load_live(model, "two")
    completions = [prompt[:7] for prompt in PROMPTS]
    for ours, theirs in zip(
        engine.logprobs(PROMPTS, completions), TransformersEngine(CONFIG, model).logprobs(PROMPTS, completions), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=TIGHT)


@pytest.mark.parametrize("tied", [False, True])
def test_a_sync_from_a_live_model_passes_the_probe(engine: RolloutEngine, tied: bool) -> None:
    first, second = tiny_llama(3, tied=tied), tiny_llama(4, tied=tied)
    engine.load_live(first, "first")
    agree(engine, first)
    engine.load_live(second, "second")
    agree(engine, second)
    with pytest.raises(MathQuarryError, match="disagree"):
        agree(engine, first)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_arrived_compare_equal_and_one_step_that_did_not_is_found(engine: RolloutEngine, tied: bool) -> None:
    model = tiny_llama(5, tied=tied)
    engine.load_live(model, f"compared-{tied}")
    # Two norms and four linear layers a block, as vLLM packs them; the last norm, the embeddings and the head.
    assert check_weights(engine, model, Ranks.current(), "compared") == 2 * 6 + 3
    optimizer = make_optimizer(model, GRPOConfig(learning_rate=1e-6))
    model(torch.tensor(PROMPTS[0])[None]).logits.square().mean().backward()
    optimizer.step()
    with pytest.raises(MathQuarryError, match="does not hold the weights that it was sent"):
        check_weights(engine, model, Ranks.current(), "not sent")


def test_a_layer_that_vllm_packs_away_is_compared_too(engine: RolloutEngine) -> None:
    model = tiny_llama(6)
    engine.load_live(model, "packed")
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight.mul_(1.0001)
    with pytest.raises(MathQuarryError, match=r"q_proj\.weight and .*k_proj\.weight and .*v_proj\.weight differ"):
        check_weights(engine, model, Ranks.current(), "packed")


def test_a_reused_version_name_does_not_bring_back_old_cached_prompts(engine: RolloutEngine) -> None:
    for seed in (5, 6):
        model = tiny_llama(seed)
        engine.load_live(model, "same name")
        agree(engine, model)


def test_the_probe_finds_a_stale_head(engine: RolloutEngine, tmp_path: Path) -> None:
    old, new = tiny_llama(7, tied=True), tiny_llama(8, tied=True)
    engine.load_live(old, "old")
    new.save_pretrained(tmp_path)  # tied: no head of its own
    engine.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(tmp_path)})
    engine._salt = "another"
    with pytest.raises(MathQuarryError, match="language-model head"):
        agree(engine, new)


def test_the_probe_finds_a_stale_prefix_cache(engine: RolloutEngine) -> None:
    old, new = tiny_llama(9), tiny_llama(10)
    engine.load_live(old, "old")
    agree(engine, old)
    salt = engine._salt
    engine.load_live(new, "new")
    engine._salt = salt
    with pytest.raises(MathQuarryError, match="prefix cache"):
        agree(engine, new)


def test_a_folder_without_a_head_of_its_own_is_refused(engine: RolloutEngine, tmp_path: Path) -> None:
    tiny_llama(0, tied=True).save_pretrained(tmp_path)
    with pytest.raises(MathQuarryError, match=r"no separate lm_head\.weight"):
        engine.load(tmp_path, "tied")
    with pytest.raises(MathQuarryError, match=r"no model\.safetensors"):
        engine.load(tmp_path / "nothing", "missing")


def test_samples_do_not_depend_on_the_batch_they_were_in(engine: RolloutEngine) -> None:
    engine.load_live(tiny_llama(1), "batches")
    options = {"n": 16, "temperature": 1.0, "max_tokens": 16}
    # 96 completions of prompts that together exceed one step's tokens: some wait for their turn.
    many = PROMPTS * 12
    whole = engine.generate(many, seeds=list(range(len(many))), **options)
    alone = engine.generate(PROMPTS[2:3], seeds=[2], **options)
    assert [completion.tokens for completion in alone[0]] == [completion.tokens for completion in whole[2]]
    assert len({tuple(completion.tokens) for completion in whole[2] + whole[8]}) > 28


def test_a_prompt_longer_than_the_context_is_named(engine: RolloutEngine) -> None:
    with pytest.raises(MathQuarryError, match=r"prompt 0 has 300 tokens.*256"):
        engine.generate([[5] * 300], n=1, temperature=1.0, max_tokens=4, seeds=[0])


def test_progress_counts_every_completion(engine: RolloutEngine) -> None:
    with Progress().track("rollout", 36) as bar:
        engine.generate(PROMPTS, n=4, temperature=1.0, max_tokens=4, seeds=list(range(6)), progress=bar)
        engine.generate(PROMPTS, n=2, temperature=0.0, max_tokens=4, seeds=list(range(6)), progress=bar)
        assert bar.done == 36


def test_a_backward_pass_works_beside_the_engine(engine: RolloutEngine) -> None:
    model = tiny_llama(1).train()
    ids = torch.tensor([PROMPTS[0]])
    model(ids, labels=ids).loss.backward()
    assert model.lm_head.weight.grad is not None


@pytest.mark.parametrize("tied", [False, True])
def test_after_each_of_five_updates_trainer_and_engine_agree(engine: RolloutEngine, tied: bool) -> None:
    policy, reference = tiny_llama(11, tied=tied), tiny_llama(11, tied=tied)
    config = GRPOConfig(precision="float32", learning_rate=1e-3, rollout=CONFIG)
    optimizer = make_optimizer(policy, config)
    engine.load_live(policy, "start")
    agree(engine, policy)
    for update in range(5):
        groups = engine.generate(PROMPTS, n=4, temperature=1.0, max_tokens=12, seeds=[100 * update + place for place in range(6)])
        completions = [completion for group in groups for completion in group]
        lengths_B = torch.tensor([len(completion.tokens) for completion in completions])
        # Any reward will do: here, how often a completion says 7.
        rewards_B = torch.tensor(
            [completion.tokens.count(7) / len(completion.tokens) + 0.01 * len(completion.tokens) for completion in completions]
        )
        prompts = [prompt for prompt in PROMPTS for _ in range(4)]
        advantages_BT = outcome_advantages(rewards_B, lengths_B, 4)
        experience = Experience(prompts, [o.tokens for o in completions], advantages_BT, [o.logprobs for o in completions])
        metrics = update_policy(policy, reference, optimizer, experience, config)
        assert metrics["mismatch_largest"] is not None
        assert metrics["mismatch_largest"] < TIGHT
        with pytest.raises(MathQuarryError, match="disagree"):
            agree(engine, policy)  # the update moved the policy, and the engine does not know it yet
        engine.load_live(policy, f"update {update}")
        assert check(engine, policy, PROMPTS, temperature=0.7, tolerance=TIGHT, version="test").largest < TIGHT


@pytest.fixture
def told(engine: RolloutEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The engine may sleep; and what vLLM's worker and torch's allocator are told meanwhile, in order. All of it is done, too."""
    from vllm.v1.worker.cpu_worker import CPUWorker

    monkeypatch.setattr(engine, "_config", CONFIG.model_copy(update={"sleep": True}))
    heard: list[tuple[str, Any]] = []

    def record(where: Any, name: str, what: Any) -> None:
        original = getattr(where, name)

        def call(*arguments: Any, **options: Any) -> Any:
            heard.append((name, what(arguments, options)))
            return original(*arguments, **options)

        monkeypatch.setattr(where, name, call)

    record(CPUWorker, "sleep", lambda arguments, options: arguments[1] if len(arguments) > 1 else options["level"])
    record(CPUWorker, "wake_up", lambda arguments, options: arguments[1] if len(arguments) > 1 else options["tags"])
    record(CPUWorker, "reload_weights", lambda arguments, options: list(options))
    record(torch.cuda, "empty_cache", lambda arguments, options: None)
    return heard


def test_before_new_weights_the_old_ones_are_forgotten_and_the_cache_wakes_last(engine: RolloutEngine, told: list[tuple[str, Any]]) -> None:
    engine.load_live(tiny_llama(13), "before")
    told.clear()
    engine.sleep(weights_follow=True)
    model = tiny_llama(14)
    engine.load_live(model, "after")
    assert told == [("sleep", 2), ("empty_cache", None), ("wake_up", ["weights"]), ("reload_weights", ["weights_iterator"])]
    agree(engine, model)
    assert told[4:] == [("empty_cache", None), ("wake_up", ["kv_cache"])]


def test_an_engine_that_is_woken_without_new_weights_kept_its_own(engine: RolloutEngine, told: list[tuple[str, Any]]) -> None:
    model = tiny_llama(15)
    engine.load_live(model, "kept")
    told.clear()
    engine.sleep(weights_follow=False)
    engine.sleep(weights_follow=True)  # it sleeps already
    agree(engine, model)
    assert [(name, what) for name, what in told if name != "empty_cache"] == [
        ("sleep", 1),
        ("wake_up", ["weights"]),
        ("wake_up", ["kv_cache"]),
    ]


def test_an_engine_without_weights_does_not_answer(engine: RolloutEngine, told: list[tuple[str, Any]]) -> None:
    engine.sleep(weights_follow=True)
    for _ in range(2):
        with pytest.raises(MathQuarryError, match="dropped its weights"):
            engine.generate(PROMPTS[:1], n=1, temperature=0.0, max_tokens=2, seeds=[0])
    model = tiny_llama(16)
    engine.load_live(model, "at last")
    agree(engine, model)


def test_weights_without_a_head_are_refused(engine: RolloutEngine) -> None:
    weights = [(name, tensor) for name, tensor in tiny_llama(17).state_dict().items() if name != "lm_head.weight"]
    with pytest.raises(MathQuarryError, match=r"lack 1 that the engine needs, among them lm_head\.weight"):
        engine.receive(iter(weights), "headless")


def test_the_probe_finds_log_probabilities_that_ignore_the_temperature(engine: RolloutEngine) -> None:
    model = tiny_llama(12)
    engine.load_live(model, "raw")
    engine.llm.collective_rpc(partial(set_logprobs_mode, mode="raw_logprobs"))
    try:
        with pytest.raises(MathQuarryError, match="as at temperature 1"):
            agree(engine, model)
    finally:
        engine.llm.collective_rpc(partial(set_logprobs_mode, mode="processed_logprobs"))
    agree(engine, model)


def set_logprobs_mode(worker: Any, mode: str) -> None:
    sampler = worker.model_runner.sampler
    sampler.logprobs_mode = sampler.topk_topp_sampler.logprobs_mode = mode
