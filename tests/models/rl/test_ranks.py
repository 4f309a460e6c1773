"""GRPO on several ranks: real processes under torchrun's launcher, over gloo, against one rank."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from data.errors import MathQuarryError
from data.workspace import Workspace
from models.checkpoint import load_policy
from models.config import METHODS, GRPOConfig, RanksConfig, RolloutConfig
from models.distributed import Ranks
from models.launch import launch
from models.rl.grpo import grpo_iteration
from models.rl.shares import own_share
from models.rl.update import Experience
from tests.models.rl.rank_work import two_steps
from tests.models.rl.tiny import save_policy, save_problems, save_reward

GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (4, 4, 9, 9, 2, 2, 6, 6)]
OUTPUTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (3, 7, 1, 5, 30, 2, 6, 4)]
EXPERIENCE = Experience(PROMPTS, OUTPUTS, torch.randn(8, 30, generator=GENERATOR), [[-5.0] * len(output) for output in OUTPUTS])

CONFIG = GRPOConfig(
    steps=4,
    questions_per_step=3,
    outputs_per_question=4,
    learning_rate=1e-3,
    micro_batch_tokens=64,
    precision="float32",
    rollout=RolloutConfig(max_tokens=12),
    probe_tolerance=1e-4,
    checkpoint_steps=2,
    evaluate_steps=4,
    evaluate_questions=5,
)
UNLIKE = ("seconds", "tokens_per_second", "peak_gib", "weights_compared")  # one rank generates with the trainer's own module


@pytest.mark.slow
def test_three_ranks_update_as_one_does(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"updates_per_step": 2, "micro_batch_tokens": 16})
    one = two_steps(Workspace.at(tmp_path / "one"), EXPERIENCE, config)
    three = launch(two_steps, (EXPERIENCE, config), RanksConfig(processes=3), Workspace.at(tmp_path / "three"), "update")
    for name, weights in one["weights"].items():
        torch.testing.assert_close(three["weights"][name], weights, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(three["figures"], one["figures"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(three["logprobs"], one["logprobs"], rtol=1e-5, atol=1e-4)
    # The shares differ, so some ranks had to make passes that do not count.
    assert len({len(counts) for counts in three["passes"]}) == 1
    assert not all(all(counts) for counts in three["passes"])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    problems = save_problems(folder / "problems", 20)
    (problems / "test.jsonl").write_bytes((problems / "train.jsonl").read_bytes())
    return save_policy(folder / "policy"), save_reward(folder / "reward"), problems


@pytest.fixture(scope="module")
def two_ranks(inputs: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    space = Workspace.at(tmp_path_factory.mktemp("two"))
    grpo_iteration(on_two_ranks(CONFIG), *inputs, 1, space)
    return space


def on_two_ranks(config: GRPOConfig) -> GRPOConfig:
    return config.model_copy(update={"ranks": RanksConfig(processes=2)})


def expect_alike(space: Workspace, other: Workspace, tolerance: float = 1e-5) -> None:
    ours, theirs = (load_policy(one.out / "model").state_dict() for one in (space, other))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_an_iteration_on_two_ranks_is_that_of_one(inputs: tuple[Path, Path, Path], two_ranks: Workspace, tmp_path: Path) -> None:
    one = Workspace.at(tmp_path)
    grpo_iteration(CONFIG, *inputs, 1, one)
    expect_alike(two_ranks, one)
    ours, theirs = (pq.read_table(space.out / "rollouts.parquet").to_pylist() for space in (two_ranks, one))
    assert [row["output"] for row in ours] == [row["output"] for row in theirs]
    assert [row["problem_id"] for row in ours] == [row["problem_id"] for row in theirs]
    for ours, theirs in zip(two_ranks.metrics.read(), one.metrics.read(), strict=True):
        shared = {name: value for name, value in theirs["values"].items() if not any(word in name for word in UNLIKE)}
        assert {name: ours["values"][name] for name in shared} == pytest.approx(shared, rel=1e-3, abs=1e-4)


@pytest.mark.slow
def test_in_bfloat16_two_ranks_take_the_step_of_one(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    changes = {"precision": "bfloat16", "steps": 1, "probe_tolerance": 0.1, "evaluate_steps": None}
    config = CONFIG.model_copy(update=changes)
    spaces = [Workspace.at(tmp_path / name) for name in ("one", "two")]
    for space, chosen in zip(spaces, (config, on_two_ranks(config)), strict=True):
        grpo_iteration(chosen, *inputs, 1, space)
    one, two = (space.metrics.read()[0]["values"] for space in spaces)
    for name in ("loss", "reward", "gradient_norm", "entropy", "mismatch_mean"):
        assert two[name] == pytest.approx(one[name], rel=0.03, abs=0.003), name
    # Two ranks' engines have copies, which were compared; one rank's generates with the trainer's own module.
    assert (one["weights_compared"], two["weights_compared"]) == (0, 21)


@pytest.mark.slow
@pytest.mark.parametrize("ranks_after", [2, 1])
def test_a_resumed_iteration_ends_as_an_uninterrupted_one_also_on_fewer_ranks(
    ranks_after: int, inputs: tuple[Path, Path, Path], two_ranks: Workspace, tmp_path: Path
) -> None:
    space = Workspace.at(tmp_path)
    half = CONFIG.model_copy(update={"steps": 2})
    grpo_iteration(on_two_ranks(half), *inputs, 1, space)
    grpo_iteration(on_two_ranks(CONFIG) if ranks_after == 2 else CONFIG, *inputs, 1, space)
    if ranks_after == 2:
        assert (space.out / "model/model.safetensors").read_bytes() == (two_ranks.out / "model/model.safetensors").read_bytes()
    else:
        expect_alike(space, two_ranks)


@pytest.mark.slow
@pytest.mark.vllm
def test_two_ranks_with_a_vllm_each_are_one_with_one(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    problems = save_problems(tmp_path / "problems", 20)
    (problems / "test.jsonl").write_bytes((problems / "train.jsonl").read_bytes())
    # vLLM's attention has no heads as small as the other tests'.
    policy, reward = save_policy(tmp_path / "policy", hidden=64), save_reward(tmp_path / "reward", hidden=64)
    config = CONFIG.model_copy(update={"rollout": RolloutConfig(engine="vllm", max_tokens=12, kv_cache_gib=0.1, batch_outputs=64)})
    spaces = [Workspace.at(tmp_path / name) for name in ("two", "one")]
    for space, chosen in zip(spaces, (on_two_ranks(config), config), strict=True):
        grpo_iteration(chosen, policy, reward, problems, 1, space)
    ours, theirs = (pq.read_table(space.out / "rollouts.parquet").to_pylist() for space in spaces)
    assert [row["output"] for row in ours] == [row["output"] for row in theirs]
    # Four steps of Adam at 1e-3: what rounding leaves of a gradient near zero can move a weight by a part of a step.
    expect_alike(*spaces, tolerance=2e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_of_ranks_follow_one_another_and_are_of_like_size(size: int) -> None:
    sizes = [3, 50, 1, 1, 20, 8, 8, 40, 2, 17]
    shares = [own_share(sizes, Ranks(rank, size, torch.device("cpu"))) for rank in range(size)]
    assert shares[0].start == 0
    assert shares[-1].stop == len(sizes)
    assert all(before.stop == after.start for before, after in pairwise(shares))
    assert max(sum(sizes[place] for place in share) for share in shares) <= sum(sizes) / size + max(sizes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"paradigm": METHODS["ppo"]}, "value model"),
        ({"questions_per_step": 1}, "questions_per_step is 1"),
    ],
)
def test_what_ranks_cannot_share_is_refused(changes: dict, named: str, inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=named):
        grpo_iteration(on_two_ranks(CONFIG.model_copy(update=changes)), *inputs, 1, Workspace.at(tmp_path))
