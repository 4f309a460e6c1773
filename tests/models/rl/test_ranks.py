"""GRPO on several ranks: real processes under torchrun's launcher, over gloo, against one rank."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.logprobs.partition import own_partition
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rl.config import METHODS, GRPOConfig, SelectionConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rl.presets import PRESETS
from mathquarry.models.rl.update import Experience
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import OptimizerConfig
from tests.models.rl.rank_work import two_steps
from tests.models.rl.tiny import save_policy, save_problems, save_reward

GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (4, 4, 9, 9, 2, 2, 6, 6)]
COMPLETIONS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (3, 7, 1, 5, 30, 2, 6, 4)]
EXPERIENCE = Experience(
    PROMPTS, COMPLETIONS, torch.randn(8, 30, generator=GENERATOR), [[-5.0] * len(completion) for completion in COMPLETIONS]
)

CONFIG = GRPOConfig(
    steps=4,
    prompts_per_step=3,
    group_size=4,
    learning_rate=1e-3,
    micro_batch_tokens=64,
    precision="float32",
    rollout=RolloutConfig(max_tokens=12),
    probe_tolerance=1e-4,
    checkpoint_steps=2,
    evaluate_steps=4,
    evaluate_questions=5,
)
UNLIKE = ("seconds", "tokens_per_second", "_gib", "weights_compared")  # one rank generates with the trainer's own module


SAVING = {"gradient_checkpointing": True, "optimizer": OptimizerConfig(weight_decay=0.0, offload=True)}


@pytest.mark.slow
@pytest.mark.parametrize("saving", [{}, SAVING])
def test_three_ranks_update_as_one_does(saving: dict, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"num_updates": 2, "micro_batch_tokens": 16})
    one = two_steps(Workspace.at(tmp_path / "one"), EXPERIENCE, config)
    config = config.model_copy(update=saving)
    three = launch(two_steps, (EXPERIENCE, config), RanksConfig(processes=3), Workspace.at(tmp_path / "three"), "update")
    for name, weights in one["weights"].items():
        torch.testing.assert_close(three["weights"][name], weights, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(three["metrics"], one["metrics"], strict=True):
        unknown = {name for name, value in theirs.items() if value is None}
        assert {name for name, value in ours.items() if value is None} == unknown
        known = {name: value for name, value in theirs.items() if name not in unknown}
        assert {name: ours[name] for name in known} == pytest.approx(known, rel=1e-4, abs=1e-5)
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
    workspace = Workspace.at(tmp_path_factory.mktemp("two"))
    grpo_iteration(on_two_ranks(CONFIG), *inputs, 1, workspace)
    return workspace


def on_two_ranks(config: GRPOConfig) -> GRPOConfig:
    return config.model_copy(update={"ranks": RanksConfig(processes=2)})


def expect_alike(workspace: Workspace, other: Workspace, tolerance: float = 1e-5) -> None:
    ours, theirs = (load_policy(one.out / "model").state_dict() for one in (workspace, other))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_an_iteration_on_two_ranks_is_that_of_one(inputs: tuple[Path, Path, Path], two_ranks: Workspace, tmp_path: Path) -> None:
    one = Workspace.at(tmp_path)
    grpo_iteration(CONFIG, *inputs, 1, one)
    expect_alike(two_ranks, one)
    ours, theirs = (pq.read_table(workspace.out / "rollouts.parquet").to_pylist() for workspace in (two_ranks, one))
    assert [row["completion"] for row in ours] == [row["completion"] for row in theirs]
    assert [row["problem_id"] for row in ours] == [row["problem_id"] for row in theirs]
    for ours, theirs in zip(two_ranks.metrics.read(), one.metrics.read(), strict=True):
        shared = {name: value for name, value in theirs["values"].items() if not any(word in name for word in UNLIKE)}
        assert {name: ours["values"][name] for name in shared} == pytest.approx(shared, rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("saving", [{}, SAVING])
def test_in_bfloat16_two_ranks_take_the_step_of_one(saving: dict, inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    changes = {"precision": "bfloat16", "steps": 1, "probe_tolerance": 0.1, "evaluate_steps": None}
    config = CONFIG.model_copy(update=changes)
    workspaces = [Workspace.at(tmp_path / name) for name in ("one", "two")]
    for workspace, chosen in zip(workspaces, (config, on_two_ranks(config.model_copy(update=saving))), strict=True):
        grpo_iteration(chosen, *inputs, 1, workspace)
    one, two = (workspace.metrics.read()[0]["values"] for workspace in workspaces)
    for name in ("loss", "reward", "gradient_norm", "entropy", "mismatch_mean"):
        assert two[name] == pytest.approx(one[name], rel=0.03, abs=0.003), name
    # Two ranks' engines have copies, which were compared; one rank's generates with the trainer's own module.
    assert (one["weights_compared"], two["weights_compared"]) == (0, 21)


@pytest.mark.slow
def test_ppo_on_two_ranks_is_that_of_one_and_goes_on_from_its_checkpoint(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"paradigm": METHODS["ppo"], "num_updates": 2, "evaluate_steps": None})
    one, two = (Workspace.at(tmp_path / name) for name in ("one", "two"))
    grpo_iteration(config, *inputs, 1, one)
    grpo_iteration(on_two_ranks(config.model_copy(update={"steps": 2})), *inputs, 1, two)
    grpo_iteration(on_two_ranks(config), *inputs, 1, two)
    expect_alike(two, one, tolerance=1e-4)
    for ours, theirs in zip(two.metrics.read(), one.metrics.read(), strict=True):
        for name in ("value_loss", "loss", "kl", "reward"):
            assert ours["values"][name] == pytest.approx(theirs["values"][name], rel=1e-3, abs=1e-5), name


@pytest.mark.slow
def test_in_bfloat16_ppo_on_two_ranks_takes_the_step_of_one(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    changes = {"paradigm": METHODS["ppo"], "precision": "bfloat16", "steps": 1, "probe_tolerance": 0.1, "evaluate_steps": None}
    config = CONFIG.model_copy(update=changes)
    workspaces = [Workspace.at(tmp_path / name) for name in ("one", "two")]
    for workspace, chosen in zip(workspaces, (config, on_two_ranks(config)), strict=True):
        grpo_iteration(chosen, *inputs, 1, workspace)
    one, two = (workspace.metrics.read()[0]["values"] for workspace in workspaces)
    for name in ("value_loss", "loss", "reward", "gradient_norm", "entropy", "mismatch_mean"):
        assert two[name] == pytest.approx(one[name], rel=0.03, abs=0.003), name


BENT = {
    **PRESETS["gspo"],
    "kl": "reward",
    "num_updates": 2,
    "tis_mask": "sequences",
    "credit": "min",
    "selection": SelectionConfig(extra_draws=2, verdicts="wrong", overlong="penalise"),
    "evaluate_steps": 1,
    "keep": "best",
}


@pytest.mark.slow
def test_what_a_recipe_can_bend_is_on_two_ranks_what_it_is_on_one(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={**BENT, "steps": 2})
    workspaces = [Workspace.at(tmp_path / name) for name in ("one", "two")]
    one, two = (
        grpo_iteration(chosen, *inputs, 1, workspace) for workspace, chosen in zip(workspaces, (config, on_two_ranks(config)), strict=True)
    )
    assert one["kept_step"] == two["kept_step"]
    expect_alike(*workspaces)
    ours, theirs = (pq.read_table(workspace.out / "rollouts.parquet").to_pylist() for workspace in workspaces)
    assert [row["completion"] for row in ours] == [row["completion"] for row in theirs]
    metrics, others = ([record["values"] for record in workspace.metrics.read()][1] for workspace in workspaces)
    for name in ("loss", "kl", "extra_groups", "groups_replaced", "learned_share", "mismatch_dropped", "advantage_one_verdict"):
        assert metrics.get(name) == pytest.approx(others.get(name), rel=1e-3, abs=1e-5), name
    assert metrics["extra_groups"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("ranks_after", [2, 1])
def test_a_resumed_iteration_ends_as_an_uninterrupted_one_also_on_fewer_ranks(
    ranks_after: int, inputs: tuple[Path, Path, Path], two_ranks: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path)
    half = CONFIG.model_copy(update={"steps": 2})
    grpo_iteration(on_two_ranks(half), *inputs, 1, workspace)
    grpo_iteration(on_two_ranks(CONFIG) if ranks_after == 2 else CONFIG, *inputs, 1, workspace)
    if ranks_after == 2:
        assert (workspace.out / "model/model.safetensors").read_bytes() == (two_ranks.out / "model/model.safetensors").read_bytes()
    else:
        expect_alike(workspace, two_ranks)


@pytest.mark.slow
@pytest.mark.vllm
def test_two_ranks_with_a_vllm_each_are_one_with_one(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    problems = save_problems(tmp_path / "problems", 20)
    (problems / "test.jsonl").write_bytes((problems / "train.jsonl").read_bytes())
    # vLLM's attention has no heads as small as the other tests'.
    policy, reward = save_policy(tmp_path / "policy", hidden=64), save_reward(tmp_path / "reward", hidden=64)
    config = CONFIG.model_copy(update={"rollout": RolloutConfig(engine="vllm", max_tokens=12, kv_cache_gib=0.1, batch_completions=64)})
    workspaces = [Workspace.at(tmp_path / name) for name in ("two", "one")]
    for workspace, chosen in zip(workspaces, (on_two_ranks(config), config), strict=True):
        grpo_iteration(chosen, policy, reward, problems, 1, workspace)
    ours, theirs = (pq.read_table(workspace.out / "rollouts.parquet").to_pylist() for workspace in workspaces)
    assert [row["completion"] for row in ours] == [row["completion"] for row in theirs]
    # Four steps of Adam at 1e-3: what rounding leaves of a gradient near zero can move a weight by a part of a step.
    expect_alike(*workspaces, tolerance=2e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_of_ranks_follow_one_another_and_are_of_like_size(size: int) -> None:
    sizes = [3, 50, 1, 1, 20, 8, 8, 40, 2, 17]
    shares = [own_partition(sizes, Ranks(rank, size, torch.device("cpu"))) for rank in range(size)]
    assert shares[0].start == 0
    assert shares[-1].stop == len(sizes)
    assert all(before.stop == after.start for before, after in pairwise(shares))
    assert max(sum(sizes[place] for place in share) for share in shares) <= sum(sizes) / size + max(sizes)


def test_fewer_questions_than_ranks_are_refused(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"prompts_per_step": 1})
    with pytest.raises(MathQuarryError, match="prompts_per_step is 1"):
        grpo_iteration(on_two_ranks(config), *inputs, 1, Workspace.at(tmp_path))
