"""vLLM beside a trainer on one GPU: weights arrive, sleep frees memory, and the engine wakes up unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.probe import check
from mathquarry.models.rollout.weight_check import check_weights
from tests.cuda.shapes import VOCABULARY, small_llama

pytestmark = pytest.mark.vllm

GENERATOR = torch.Generator().manual_seed(3)
PROMPTS = [torch.randint(3, VOCABULARY, (40 + 7 * place,), generator=GENERATOR).tolist() for place in range(4)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutEngine]:
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("start")
    small_llama(0, torch.device("cpu")).save_pretrained(folder)
    made = make_engine(RolloutConfig(engine="vllm", batch_completions=64, gpu_memory_share=0.3, kv_cache_gib=0.1, sleep=True), folder)
    yield made
    made.close()


def tolerance(device: torch.device) -> float:
    """vLLM computes in bfloat16 on a GPU."""
    return 0.1 if device.type == "cuda" else 1e-3


def sampled(engine: RolloutEngine) -> list[list[int]]:
    groups = engine.generate(PROMPTS, n=1, temperature=0.0, max_tokens=16, seeds=[0] * len(PROMPTS))
    return [completion.tokens for group in groups for completion in group]


def test_weights_of_a_live_policy_arrive_and_one_step_that_did_not_is_found(engine: RolloutEngine, device: torch.device) -> None:
    for seed in (1, 2):
        policy = small_llama(seed, device)
        engine.load_live(policy, f"seed {seed}")
        assert check_weights(engine, policy, Ranks.current(), f"seed {seed}") > 0
        check(engine, policy, PROMPTS, temperature=0.7, tolerance=tolerance(device), version=f"seed {seed}")
    with torch.no_grad():
        for weights in policy.parameters():
            weights.mul_(1.01)
    with pytest.raises(MathQuarryError, match="does not hold the weights"):
        check_weights(engine, policy, Ranks.current(), "not sent")


def test_sleep_gives_memory_back_and_what_wakes_answers_as_before(
    engine: RolloutEngine, gpu: torch.device, note: Callable[[str, float, str], None]
) -> None:
    policy = small_llama(3, gpu)
    engine.load_live(policy, "before sleep")
    before = sampled(engine)
    free = torch.cuda.mem_get_info()[0]
    engine.sleep(weights_follow=False)
    given = (torch.cuda.mem_get_info()[0] - free) / 2**30
    note("memory that vLLM gives back asleep", given, "GiB")
    assert given > 0.1 * torch.cuda.mem_get_info()[1] / 2**30
    assert sampled(engine) == before


def test_weights_that_arrive_during_sleep_are_those_that_answer(engine: RolloutEngine, device: torch.device) -> None:
    engine.load_live(small_llama(4, device), "awake")
    engine.sleep(weights_follow=True)
    policy = small_llama(5, device)
    engine.load_live(policy, "asleep")
    check_weights(engine, policy, Ranks.current(), "asleep")
    check(engine, policy, PROMPTS, temperature=0.7, tolerance=tolerance(device), version="asleep")


def test_a_prompt_that_was_cached_is_computed_again_with_new_weights(engine: RolloutEngine, device: torch.device) -> None:
    answers = []
    for seed in (6, 7, 6):
        engine.load_live(small_llama(seed, device), f"seed {seed}")
        answers.append(sampled(engine))
    assert answers[0] == answers[2] != answers[1]
