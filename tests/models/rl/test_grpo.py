"""One iteration of Algorithm 1 on a model small enough to repeat it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import mathquarry.models.rl.grpo as grpo
import mathquarry.models.rl.loop as loop
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_policy, load_reward
from mathquarry.models.policy.questions import Question
from mathquarry.models.reward.model import RewardModel
from mathquarry.models.rl.advantages import pad_steps, process_advantages
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.sampling import choose_questions, sampling_seeds
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.state import Checkpoints
from tests.models.rl.tiny import save_policy, save_problems, save_reward, tiny_tokenizer

CONFIG = GRPOConfig(
    steps=5,
    prompts_per_step=3,
    group_size=4,
    learning_rate=1e-3,
    micro_batch_tokens=256,
    precision="float32",
    rollout=RolloutConfig(max_tokens=12),
    probe_tolerance=1e-4,
    checkpoint_steps=2,
)
FILES = ["model/model.safetensors", "rollouts.parquet"]
METRICS = {
    "reward",
    "accuracy",
    "kl",
    "clip_fraction",
    "clip_fraction_high",
    "clip_fraction_low",
    "entropy",
    "completion_tokens",
    "completion_tokens_shortest",
    "completion_tokens_longest",
    "truncated_share",
    "groups_all_right",
    "groups_all_wrong",
    "groups_mixed",
    "zero_advantage_groups",
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
    workspace = Workspace.at(tmp_path_factory.mktemp("whole"))
    return workspace, grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)


@pytest.mark.parametrize("killed_in", [1, 2, 4, 5])
def test_a_killed_and_resumed_iteration_ends_with_the_same_bytes(
    killed_in: int, inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.at(tmp_path)
    update, calls = loop.update_policy, []

    def dies(*arguments: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == killed_in:
            raise KeyboardInterrupt
        return update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "update_policy", dies)
    with pytest.raises(KeyboardInterrupt):
        grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    monkeypatch.setattr(loop, "update_policy", update)
    summary = grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    assert summary == whole[1]
    for name in FILES:
        assert (workspace.out / name).read_bytes() == (whole[0].out / name).read_bytes()
    assert [record["step"] for record in workspace.metrics.read()] == [1, 2, 3, 4, 5]


def dies_in_a_save(inputs: tuple[Path, Path, Path], folder: Path, saves: int, whole: bool) -> None:
    """Run an iteration that is killed when so many checkpoints were written and the last one, whole or half, was not yet published."""
    publish, calls = Checkpoints._publish, []

    def dies(self: Checkpoints, step: int) -> None:
        calls.append(step)
        if len(calls) == saves:
            if not whole:
                largest = max((self._partial / f"checkpoint-{step}").iterdir(), key=lambda file: file.stat().st_size)
                os.truncate(largest, largest.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        publish(self, step)

    Checkpoints._publish = dies  # type: ignore[method-assign]
    grpo.grpo_iteration(CONFIG, *inputs, 1, Workspace.at(folder))


@pytest.mark.parametrize(("saves", "written"), [(1, False), (2, True)])
def test_an_iteration_killed_in_the_middle_of_a_save_loses_no_earlier_checkpoint(
    saves: int, written: bool, inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=dies_in_a_save, args=(inputs, tmp_path, saves, written))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    workspace = Workspace.at(tmp_path)
    assert [path.name for path in (workspace.scratch / "grpo").glob("checkpoint-*")] == ["checkpoint-2"][: saves - 1]
    assert list((workspace.scratch / "grpo" / "partial").iterdir())
    assert grpo.grpo_iteration(CONFIG, *inputs, 1, workspace) == whole[1]
    for name in FILES:
        assert (workspace.out / name).read_bytes() == (whole[0].out / name).read_bytes()


def test_what_was_recorded_after_the_checkpoint_is_dropped(
    inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path)
    stale = workspace.scratch / "rollouts" / "step-000099.parquet"
    stale.parent.mkdir()
    stale.write_bytes(b"from a later step")
    grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    assert not stale.exists()
    assert (workspace.out / "rollouts.parquet").read_bytes() == (whole[0].out / "rollouts.parquet").read_bytes()


def test_the_reference_is_the_policy_as_it_came_in(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = []
    update = loop.update_policy
    monkeypatch.setattr(
        loop, "update_policy", lambda policy, reference, *rest: (references.append(reference), update(policy, reference, *rest))[1]
    )
    workspace = Workspace.at(tmp_path)
    grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    start, end = load_policy(inputs[0]).state_dict(), load_policy(workspace.out / "model").state_dict()
    assert all(torch.equal(weights, start[name]) for name, weights in references[-1].model.state_dict().items())
    assert any(not torch.equal(end[name], start[name]) for name in start)
    kl = [record["values"]["kl"] for record in workspace.metrics.read()]
    assert kl[0] == 0.0 < kl[-1]


def test_rollouts_hold_what_was_sampled_scored_and_trained_on(inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict]) -> None:
    rows = pq.read_table(whole[0].out / "rollouts.parquet").to_pylist()
    assert len(rows) == 5 * 3 * 4 == whole[1]["completions"]
    tokenizer = tiny_tokenizer()
    first = [row for row in rows if row["step"] == 1][:4]
    assert len({row["problem_id"] for row in first}) == 1
    prompt = tokenizer(f"{first[0]['question']}\nAnswer:", add_special_tokens=False)["input_ids"]
    prompt = [tokenizer.bos_token_id, *prompt]
    scorer = RewardModel(load_reward(inputs[1]), 1000)
    for row in first:
        assert row["step_rewards"] == pytest.approx(scorer.score([prompt], [row["completion"]], [row["step_ends"]])[0], abs=1e-5)
        assert row["reward"] == row["step_rewards"][-1]
        assert row["text"] == tokenizer.decode(row["completion"], skip_special_tokens=True)
    ends_BS = pad_steps([row["step_ends"] for row in first], -1)
    lengths_B = torch.tensor([len(row["completion"]) for row in first])
    advantages_BT = process_advantages(pad_steps([row["step_rewards"] for row in first], 0.0), ends_BS, lengths_B, 4)
    for row, own_T in zip(first, advantages_BT, strict=True):
        assert row["advantage"] == pytest.approx(own_T[row["step_ends"]].tolist(), abs=1e-4)


def test_outcome_supervision_has_one_reward_a_completion(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    grpo.grpo_iteration(CONFIG.model_copy(update={"supervision": "outcome", "steps": 1}), *inputs, 1, workspace)
    rows = pq.read_table(workspace.out / "rollouts.parquet").to_pylist()
    assert all(len(row["step_rewards"]) == len(row["advantage"]) == 1 for row in rows)


@pytest.mark.parametrize(("max_tokens", "warned"), [(2, True), (100, False)])
def test_a_run_warns_once_when_almost_no_completion_ends(
    max_tokens: int, warned: bool, inputs: tuple[Path, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"supervision": "outcome", "steps": 2, "micro_batch_tokens": 1024, "rollout": RolloutConfig(max_tokens=max_tokens)}
    grpo.grpo_iteration(CONFIG.model_copy(update=changes), *inputs, 1, Workspace.at(tmp_path))
    assert caplog.text.count(f"ended within {max_tokens} tokens (rollout.max_tokens)") == int(warned)


def test_every_figure_is_logged_for_every_step(whole: tuple[Workspace, dict]) -> None:
    records = [record["values"] for record in whole[0].metrics.read()]
    assert len(records) == 5
    for values in records:
        assert set(values) >= METRICS
        assert values["groups_all_right"] + values["groups_all_wrong"] + values["groups_mixed"] == pytest.approx(1.0)
        assert values["mismatch_largest"] < 1e-4


def test_training_raises_the_reward(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    changes = {
        "supervision": "outcome",
        "steps": 20,
        "learning_rate": 2e-2,
        "kl_coef": 0.0,
        "prompts_per_step": 8,
        "group_size": 16,
        "micro_batch_tokens": 2048,
    }
    grpo.grpo_iteration(CONFIG.model_copy(update=changes), *inputs, 1, workspace)
    rewards = [record["values"]["reward"] for record in workspace.metrics.read()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.05


def test_iterations_sample_anew(inputs: tuple[Path, Path, Path], whole: tuple[Workspace, dict], tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    grpo.grpo_iteration(CONFIG.model_copy(update={"steps": 1}), *inputs, 2, workspace)
    second = pq.read_table(workspace.out / "rollouts.parquet").column("completion").to_pylist()
    assert second != pq.read_table(whole[0].out / "rollouts.parquet").column("completion").to_pylist()[: len(second)]


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
    ("change", "named"), [({"group_size": 1}, "group_size"), ({"rollout": RolloutConfig(temperature=0)}, "temperature")]
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
