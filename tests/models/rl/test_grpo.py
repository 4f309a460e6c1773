"""One iteration of Algorithm 1 on a model small enough to repeat it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import models.rl.grpo as grpo
import models.rl.loop as loop
from data.errors import MathQuarryError
from data.problems.problem import Problem
from data.workspace import Workspace
from models.checkpoint import load_policy, load_reward
from models.config import GRPOConfig, RolloutConfig
from models.questions import Question
from models.reward import RewardModel
from models.rl.advantages import pad_steps, process_advantages
from models.rl.rollouts import choose_questions, sampling_seeds
from tests.models.rl.tiny import save_policy, save_problems, save_reward, tiny_tokenizer

CONFIG = GRPOConfig(
    steps=5,
    questions_per_step=3,
    outputs_per_question=4,
    learning_rate=1e-3,
    micro_batch_tokens=256,
    precision="float32",
    rollout=RolloutConfig(max_tokens=12),
    probe_tolerance=1e-4,
    checkpoint_steps=2,
)
FILES = ["model/model.safetensors", "rollouts.parquet"]
FIGURES = {
    "reward",
    "accuracy",
    "kl",
    "clip_fraction",
    "clip_fraction_high",
    "clip_fraction_low",
    "entropy",
    "output_tokens",
    "output_tokens_shortest",
    "output_tokens_longest",
    "truncated_share",
    "groups_all_right",
    "groups_all_wrong",
    "groups_mixed",
    "groups_flat",
    "advantage_size",
    "advantage_std",
    "mismatch_mean",
    "mismatch_largest",
    "probe_mean",
    "probe_largest",
    "sample_tokens_per_second",
    "score_tokens_per_second",
    "update_tokens_per_second",
    "tokens_per_second",
    "seconds_sync",
    "peak_gib",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 20)


@pytest.fixture(scope="module")
def whole(inputs: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict]:
    space = Workspace.at(tmp_path_factory.mktemp("whole"))
    return space, grpo.grpo_iteration(CONFIG, *inputs, 1, space)


@pytest.mark.parametrize("killed_in", [1, 2, 4, 5])
def test_a_killed_and_resumed_iteration_ends_with_the_same_bytes(
    killed_in: int, inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Workspace.at(tmp_path)
    update, calls = loop.update_policy, []

    def dies(*arguments: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == killed_in:
            raise KeyboardInterrupt
        return update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "update_policy", dies)
    with pytest.raises(KeyboardInterrupt):
        grpo.grpo_iteration(CONFIG, *inputs, 1, space)
    monkeypatch.setattr(loop, "update_policy", update)
    summary = grpo.grpo_iteration(CONFIG, *inputs, 1, space)
    assert summary == whole[1]
    for name in FILES:
        assert (space.out / name).read_bytes() == (whole[0].out / name).read_bytes()
    assert [record["step"] for record in space.metrics.read()] == [1, 2, 3, 4, 5]


def test_what_was_recorded_after_the_checkpoint_is_dropped(
    inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path
) -> None:
    space = Workspace.at(tmp_path)
    stale = space.scratch / "rollouts" / "step-000099.parquet"
    stale.parent.mkdir()
    stale.write_bytes(b"from a later step")
    grpo.grpo_iteration(CONFIG, *inputs, 1, space)
    assert not stale.exists()
    assert (space.out / "rollouts.parquet").read_bytes() == (whole[0].out / "rollouts.parquet").read_bytes()


def test_the_reference_is_the_policy_as_it_came_in(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = []
    update = loop.update_policy
    monkeypatch.setattr(
        loop, "update_policy", lambda policy, reference, *rest: (references.append(reference), update(policy, reference, *rest))[1]
    )
    space = Workspace.at(tmp_path)
    grpo.grpo_iteration(CONFIG, *inputs, 1, space)
    start, end = load_policy(inputs[0]).state_dict(), load_policy(space.out / "model").state_dict()
    assert all(torch.equal(weights, start[name]) for name, weights in references[-1].model.state_dict().items())
    assert any(not torch.equal(end[name], start[name]) for name in start)
    kl = [record["values"]["kl"] for record in space.metrics.read()]
    assert kl[0] == 0.0 < kl[-1]


def test_rollouts_hold_what_was_sampled_scored_and_trained_on(inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict]) -> None:
    rows = pq.read_table(whole[0].out / "rollouts.parquet").to_pylist()
    assert len(rows) == 5 * 3 * 4 == whole[1]["outputs"]
    tokenizer = tiny_tokenizer()
    first = [row for row in rows if row["step"] == 1][:4]
    assert len({row["problem_id"] for row in first}) == 1
    prompt = tokenizer(f"{first[0]['question']}\nAnswer:", add_special_tokens=False)["input_ids"]
    prompt = [tokenizer.bos_token_id, *prompt]
    scorer = RewardModel(load_reward(inputs[1]), 1000)
    for row in first:
        assert row["step_rewards"] == pytest.approx(scorer.score([prompt], [row["output"]], [row["step_ends"]])[0], abs=1e-5)
        assert row["reward"] == row["step_rewards"][-1]
        assert row["text"] == tokenizer.decode(row["output"], skip_special_tokens=True)
    ends_BS = pad_steps([row["step_ends"] for row in first], -1)
    lengths_B = torch.tensor([len(row["output"]) for row in first])
    advantages_BT = process_advantages(pad_steps([row["step_rewards"] for row in first], 0.0), ends_BS, lengths_B, 4)
    for row, own_T in zip(first, advantages_BT, strict=True):
        assert row["advantage"] == pytest.approx(own_T[row["step_ends"]].tolist(), abs=1e-4)


def test_outcome_supervision_has_one_reward_an_output(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    space = Workspace.at(tmp_path)
    grpo.grpo_iteration(CONFIG.model_copy(update={"supervision": "outcome", "steps": 1}), *inputs, 1, space)
    rows = pq.read_table(space.out / "rollouts.parquet").to_pylist()
    assert all(len(row["step_rewards"]) == len(row["advantage"]) == 1 for row in rows)


def test_every_figure_is_logged_for_every_step(whole: tuple[Workspace, dict]) -> None:
    records = [record["values"] for record in whole[0].metrics.read()]
    assert len(records) == 5
    for values in records:
        assert set(values) >= FIGURES
        assert values["groups_all_right"] + values["groups_all_wrong"] + values["groups_mixed"] == pytest.approx(1.0)
        assert values["mismatch_largest"] < 1e-4


def test_training_raises_the_reward(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    space = Workspace.at(tmp_path)
    changes = {
        "supervision": "outcome",
        "steps": 20,
        "learning_rate": 2e-2,
        "kl_coef": 0.0,
        "questions_per_step": 8,
        "outputs_per_question": 16,
        "micro_batch_tokens": 2048,
    }
    grpo.grpo_iteration(CONFIG.model_copy(update=changes), *inputs, 1, space)
    rewards = [record["values"]["reward"] for record in space.metrics.read()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.05


def test_iterations_sample_anew(inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path) -> None:
    space = Workspace.at(tmp_path)
    grpo.grpo_iteration(CONFIG.model_copy(update={"steps": 1}), *inputs, 2, space)
    second = pq.read_table(space.out / "rollouts.parquet").column("output").to_pylist()
    assert second != pq.read_table(whole[0].out / "rollouts.parquet").column("output").to_pylist()[: len(second)]


def test_steps_visit_every_question_before_any_comes_again_over_iterations_too() -> None:
    questions = [Question(Problem(f"p{i}", "?", "1"), [1]) for i in range(30)]
    chosen = [q.problem.id for iteration in (1, 2) for step in range(1, 6) for q in choose_questions(questions, CONFIG, iteration, step)]
    assert set(Counter(chosen).values()) == {1}
    assert choose_questions(questions, CONFIG, 2, 3) == choose_questions(questions, CONFIG, 2, 3)


def test_a_step_with_more_places_than_questions_repeats_them_with_other_seeds() -> None:
    questions = [Question(Problem("p", "?", "1"), [1])]
    assert len(choose_questions(questions, CONFIG, 1, 1)) == 3
    assert len(set(sampling_seeds(CONFIG, 1, 1) + sampling_seeds(CONFIG, 1, 2) + sampling_seeds(CONFIG, 2, 1))) == 9


@pytest.mark.parametrize(
    ("change", "named"), [({"outputs_per_question": 1}, "outputs_per_question"), ({"rollout": RolloutConfig(temperature=0)}, "temperature")]
)
def test_a_config_without_relative_advantages_is_refused(change: dict, named: str, inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=named):
        grpo.grpo_iteration(CONFIG.model_copy(update=change), *inputs, 1, Workspace.at(tmp_path))


def test_questions_longer_than_the_context_are_left_out_and_counted(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    problems = save_problems(tmp_path / "problems", 20)
    with (problems / "train.jsonl").open("a") as file:
        file.write('{"id": "long", "question": "' + "apples " * 200 + '", "answer": "1"}\n')
    summary = grpo.grpo_iteration(CONFIG.model_copy(update={"steps": 1}), inputs[0], inputs[1], problems, 1, Workspace.at(tmp_path / "run"))
    assert summary["questions_too_long"] == 1
