"""Stages that sample on several processes: evaluation, rejection sampling and the reward model against one process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.solutions.example import Example, Segment, write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.evaluate import evaluate as evaluate_stage
from mathquarry.models.evaluate.config import EvaluateConfig, RejectionConfig
from mathquarry.models.evaluate.evaluate import evaluate
from mathquarry.models.evaluate.rejection import sample_solutions
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.launch import own_cards, share_out
from mathquarry.models.reward.config import LabelConfig, RefreshConfig, RewardConfig
from mathquarry.models.reward.examples import read_reward_data
from mathquarry.models.reward.rollouts import COLUMNS
from mathquarry.models.reward.stage import refresh_reward, train_reward
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import SFTConfig
from mathquarry.models.train.sft import finetune
from tests.models.rl.tiny import save_policy
from tests.models.sampling_work import answer_until_killed

TWO = RanksConfig(processes=2)
GRADE = GradeConfig(workers=1)
EVALUATE = EvaluateConfig(k=3, k_values=[1, 2], rollout=RolloutConfig(max_tokens=12), grade=GRADE)
REJECTION = RejectionConfig(formats=["cot"], group_size=4, rollout=RolloutConfig(max_tokens=12), grade=GRADE)
REWARD = RewardConfig(
    questions=12,
    group_size=3,
    context_tokens=64,
    batch_tokens=256,
    validation_share=0.4,
    label=LabelConfig(completions=2),
    rollout=RolloutConfig(max_tokens=12),
    grade=GRADE,
)
"""In bfloat16, the default precision of its training."""


def question(number: int) -> Problem:
    """Half of them have the answer that the policy tends to give."""
    return Problem(f"p{number}", f"Tom has {number} red apples.", "7" if number % 2 else "4")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems, worked examples, and a policy trained to say 7."""
    folder = tmp_path_factory.mktemp("inputs")
    problems = [question(number) for number in range(12)]
    for name in ("train.jsonl", "test.jsonl"):
        write_problems(folder / "problems" / name, problems)
    said = [Segment(r"The answer is \boxed{7}.")]
    write_examples(folder / "examples" / "examples.jsonl", [Example(p.id, p.question, "cot", "en", said, "7") for p in problems])
    config = SFTConfig(batch_tokens=512, context_tokens=128, steps=60, learning_rate=1e-2, precision="float32")
    workspace = Workspace.at(folder / "sft")
    finetune(config, save_policy(folder / "base", hidden=32), [folder / "examples"], workspace)
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.models.evaluate.question_chunks.CHUNK_QUESTIONS", 3)
    monkeypatch.setattr("mathquarry.models.reward.data.QUESTIONS_A_PART", 3)


def policy(inputs: Path) -> Path:
    return inputs / "sft" / "out" / "model"


def on(ranks: RanksConfig, config: Any) -> Any:
    return config.model_copy(update={"ranks": ranks})


def same_files(one: Workspace, other: Workspace, *names: str) -> None:
    for name in names:
        assert (one.out / name).read_bytes() == (other.out / name).read_bytes(), name


@pytest.mark.slow
def test_evaluation_has_the_same_bytes_on_one_two_and_three_processes_also_after_a_kill(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, three, killed = (Workspace.at(tmp_path / name) for name in ("one", "three", "killed"))
    scores = evaluate(EVALUATE, policy(inputs), inputs / "problems", one)
    assert 0 < scores["pass@1"] < 1  # otherwise equal scores would say little
    assert evaluate(on(RanksConfig(processes=3), EVALUATE), policy(inputs), inputs / "problems", three) == scores
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_stage, "_answer", answer_until_killed)
        with pytest.raises(MathQuarryError, match=r"rank 1 .* was ended by SIGKILL"):
            evaluate(on(TWO, EVALUATE), policy(inputs), inputs / "problems", killed)
    kept = {path.name: path.stat().st_mtime_ns for path in killed.scratch.glob("evaluate-*.parquet")}
    assert kept  # the second process's first chunk, at least
    assert evaluate(on(TWO, EVALUATE), policy(inputs), inputs / "problems", killed) == scores
    assert all((killed.scratch / name).stat().st_mtime_ns == time for name, time in kept.items())
    for other in (three, killed):
        same_files(one, other, "answers.parquet", "scores.json")


@pytest.mark.slow
def test_rejection_sampling_has_the_same_bytes_on_two_processes(inputs: Path, tmp_path: Path) -> None:
    one, two = Workspace.at(tmp_path / "one"), Workspace.at(tmp_path / "two")
    write_examples(tmp_path / "given" / "examples.jsonl", [Example("p0", "Old", "cot", "en", [Segment(r"Old: \boxed{4}")], "4")])
    counts = sample_solutions(REJECTION, policy(inputs), inputs / "problems", tmp_path / "given", one)
    assert counts["kept"] > 0
    assert sample_solutions(on(TWO, REJECTION), policy(inputs), inputs / "problems", tmp_path / "given", two) == counts
    same_files(one, two, "solutions.parquet", "examples.jsonl")


@pytest.mark.slow
def test_the_reward_model_is_made_and_refreshed_on_two_processes_as_on_one(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Workspace.at(tmp_path / "one"), Workspace.at(tmp_path / "two")
    problems = inputs / "problems"
    alone = train_reward(REWARD, policy(inputs), policy(inputs), problems, one)
    nothing_is_computed_here(monkeypatch)
    shared = train_reward(on(TWO, REWARD), policy(inputs), policy(inputs), problems, two)
    same_files(one, two, "reward_data.parquet")
    assert shared.keys() == alone.keys()
    assert shared["loss"] == pytest.approx(alone["loss"], abs=2e-2)  # bfloat16
    assert shared["calibration_error"] == pytest.approx(alone["calibration_error"], abs=2e-2)

    refreshed = Workspace.at(tmp_path / "refreshed")
    refresh = RefreshConfig(questions=8, replay_share=0.3, data="rollouts")
    examples = read_reward_data(one.out / "reward_data.parquet")
    columns = {name: [getattr(example, name) for example in examples] for name in COLUMNS}
    pq.write_table(pa.table(columns), policy(inputs).parent / "rollouts.parquet")
    summary = refresh_reward(on(TWO, REWARD), refresh, two.out / "model", policy(inputs), problems, [two.out], 1, refreshed)
    fresh = read_reward_data(refreshed.out / "reward_data.parquet")
    assert len({example.problem_id for example in fresh}) == 8
    assert {(e.problem_id, tuple(e.completion)) for e in fresh} <= {(e.problem_id, tuple(e.completion)) for e in examples}
    assert summary["replayed_solutions"] > 0
    assert math.isfinite(summary["loss"])
    assert "before_calibration_error" in summary


@pytest.mark.slow
def test_fine_tuning_on_two_processes_measures_its_groups_where_it_trains(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SFTConfig(batch_tokens=512, context_tokens=128, steps=3, precision="float32")
    one, two = Workspace.at(tmp_path / "one"), Workspace.at(tmp_path / "two")
    finetune(config, policy(inputs), [inputs / "examples"], one)
    nothing_is_computed_here(monkeypatch)
    finetune(on(TWO, config), policy(inputs), [inputs / "examples"], two)
    ours, theirs = ([record["values"] for record in workspace.metrics.read() if "loss_cot" in record["values"]] for workspace in (two, one))
    assert len(ours) == 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-4)


def nothing_is_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process no module runs or is moved to a device; the processes that it starts may do both."""

    def refuse(self: torch.nn.Module, *arguments: object, **options: object) -> None:
        raise AssertionError(f"{type(self).__name__} was used in the process that starts the others")

    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)
    monkeypatch.setattr(torch.nn.Module, "to", refuse)


@pytest.mark.parametrize(
    ("seen", "place", "count", "own"),
    [
        ("0,1,2,3", 0, 1, ["0"]),
        ("0,1,2,3", 3, 1, ["3"]),
        ("0,1,2,3", 1, 2, ["2", "3"]),
        ("6,2", 1, 1, ["2"]),
        ("GPU-aa,GPU-bb", 0, 2, ["GPU-aa", "GPU-bb"]),
    ],
)
def test_each_process_sees_its_own_gpus(monkeypatch: pytest.MonkeyPatch, seen: str, place: int, count: int, own: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert own_cards(place, count) == own


@pytest.mark.parametrize(("seen", "place", "count"), [("0,1", 2, 1), ("0,1,2", 1, 2), ("5", 0, 2)])
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, seen: str, place: int, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    with pytest.raises(MathQuarryError, match=r"Lower ranks\.processes"):
        own_cards(place, count)


def test_processes_that_engines_cannot_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"ranks\.processes is 3, .* rollout\.tensor_parallel = 2"):
        share_out(print, [1], (), RanksConfig(processes=3), Workspace.at(tmp_path), "evaluate", 2)


def test_only_vllm_spans_several_gpus_and_not_beside_a_trainer() -> None:
    with pytest.raises(ValidationError, match="needs engine `vllm`"):
        RolloutConfig(tensor_parallel=2)
    with pytest.raises(ValidationError, match="in .grpo. each engine has one GPU"):
        GRPOConfig(rollout=RolloutConfig(engine="vllm", tensor_parallel=2))


def test_the_number_of_sampling_processes_is_not_part_of_the_artifacts_key() -> None:
    assert on(TWO, EVALUATE).identity() == EVALUATE.identity()
    assert on(TWO, REJECTION).identity() == REJECTION.identity()
