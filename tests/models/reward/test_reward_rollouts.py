"""A refresh of the reward model on the graded rollouts of an iteration (`refresh.data = "rollouts"`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import read_problems
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.questions import Question, read_questions
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.reward import data
from mathquarry.models.reward.config import LabelConfig, RefreshConfig, RewardConfig
from mathquarry.models.reward.examples import RewardExample, RewardExamples, read_reward_data, write_reward_data
from mathquarry.models.reward.label import Solution
from mathquarry.models.reward.rollouts import GradedRollouts
from mathquarry.models.reward.stage import refresh_reward
from mathquarry.models.rl.rollout_table import join_rollouts, write_rollouts
from mathquarry.models.rl.rollouts import Rollout, Rollouts
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.tiny import ScriptedEngine, save_policy, save_problems, save_reward, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
PROBLEMS = 12
OUTCOME = RewardConfig(
    supervision="outcome",
    context_tokens=96,
    batch_tokens=512,
    micro_batch_rows=8,
    validation_share=0.25,
    precision="float32",
    label=LabelConfig(completions=2),
    rollout=RolloutConfig(max_tokens=40),
)
PROCESS = OUTCOME.model_copy(update={"supervision": "process"})


def answer(number: int, right: bool) -> list[int]:
    return [*encode(TOKENIZER, f"{number}+2=\n\\boxed{{{number + 2 if right else 0}}}"), EOS]


def step_of(questions: Sequence[Question], draws: Sequence[tuple[bool, bool]], dialogue: bool = False) -> Rollouts:
    """Two completions a question: for each, whether it is right and whether it was finished."""
    rows = []
    for question in questions:
        number = int(question.problem.answer) - 2
        for right, finished in draws:
            tokens = answer(number, right)[: None if finished else -1]
            mask = [1, 0, 0, *[1] * (len(tokens) - 3)] if dialogue else None
            rows.append(
                Rollout(
                    question,
                    tokens,
                    finished,
                    mask=mask,
                    correct=right and finished,
                    step_ends=[tokens.index(TOKENIZER.encode("\n", add_special_tokens=False)[-1]), len(tokens) - 1],
                    rewards=[0.5],
                )
            )
    longest = max(len(row.completion) for row in rows)
    return Rollouts(rows, len(draws), advantages_BT=torch.zeros(len(rows), longest))


def iteration_of(folder: Path, dialogues: bool = False) -> tuple[Path, Path]:
    """A `grpo` artifact of two steps, and its problems; the last two problems were never asked."""
    save_policy(folder / "grpo" / "model")
    problems = save_problems(folder / "problems", PROBLEMS)
    questions, _ = read_questions(problems / "train.jsonl", Prompter(TOKENIZER, "short"), None)
    steps = [
        step_of(questions[:6], [(True, True), (False, True)], dialogues),
        # Questions 4 and 5 again: one completion as before, one cut before its end token.
        step_of(questions[4:10], [(True, True), (True, False)], dialogues),
    ]
    parts = [folder / f"step-{number}.parquet" for number in (1, 2)]
    for number, (part, step) in enumerate(zip(parts, steps, strict=True), 1):
        write_rollouts(part, step, 1, number)
    join_rollouts(parts, folder / "grpo" / "rollouts.parquet")
    return folder / "grpo" / "model", problems


def history_of(folder: Path) -> Path:
    """An earlier reward artifact with examples of 40 problems."""
    save_reward(folder / "reward" / "model")
    write_reward_data(
        folder / "reward" / "reward_data.parquet",
        (RewardExample(0, f"old{i}", [5, 6], [7, 8, 9], [0, 2], [1.0], True, True) for i in range(40)),
    )
    return folder / "reward"


def refreshed(
    folder: Path,
    config: RewardConfig = OUTCOME,
    name: str = "out",
    engine: ScriptedEngine | None = None,
    dialogues: bool = False,
    **fields: Any,
) -> tuple[Workspace, dict]:
    policy, problems = iteration_of(folder, dialogues)
    reward, workspace = history_of(folder), Workspace.at(folder / name)
    refresh = RefreshConfig(data="rollouts", **fields)
    return workspace, refresh_reward(config, refresh, reward / "model", policy, problems, [reward], 1, workspace, engine)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("an engine was made")

    monkeypatch.setattr(data, "make_engine", refuse)


@pytest.mark.usefixtures("no_engine")
def test_a_refresh_on_rollouts_trains_on_each_different_completion_with_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mathquarry.models.reward.stage as stage

    trained_on: list[RewardExamples] = []
    train = stage._train
    monkeypatch.setattr(stage, "_train", lambda *given: (trained_on.append(given[3]), train(*given))[1])
    workspace, summary = refreshed(tmp_path, replay_share=0.3)
    examples = read_reward_data(workspace.out / "reward_data.parquet")
    assert {(e.problem_id, TOKENIZER.decode(e.completion), e.labels[0], e.finished) for e in examples} == {
        (f"p{number}", TOKENIZER.decode(answer(number, right)[:end]), float(right and end is None), end is None)
        for number in range(10)
        for right, end in ([(True, None)] + [(False, None)] * (number < 6) + [(True, -1)] * (number > 3))
    }
    assert len(examples) == 22  # of 24: the right answers of questions 4 and 5 were sampled twice
    assert all(e.labels == [float(e.correct)] and e.label_ends == [len(e.completion) - 1] for e in examples)
    assert {e.iteration for e in examples} == {1}
    assert summary["questions"] == 10
    (mixed,) = trained_on
    assert len(mixed) == summary["training_solutions"] + summary["replayed_solutions"]
    assert summary["replayed_solutions"] == round(summary["training_solutions"] * 0.3 / 0.7)


@pytest.mark.usefixtures("no_engine")
def test_the_reward_model_reads_the_prompts_that_the_policy_answered(tmp_path: Path) -> None:
    workspace, _ = refreshed(tmp_path)
    by_id = {problem.id: problem for problem in read_problems(tmp_path / "problems" / "train.jsonl")}
    prompter = Prompter(TOKENIZER, "short")
    for example in read_reward_data(workspace.out / "reward_data.parquet"):
        assert example.prompt == prompter.encode(by_id[example.problem_id].question, "cot", "en")


@pytest.mark.usefixtures("no_engine")
def test_rollouts_are_not_warned_about_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("mathquarry.models.rollout.finished.FEW", 1.0)  # some of these are cut
    refreshed(tmp_path)
    assert "of the completions ended" not in caplog.text


@pytest.mark.usefixtures("no_engine")
def test_a_refresh_takes_at_most_its_questions_of_the_rollouts(tmp_path: Path) -> None:
    workspace, summary = refreshed(tmp_path, questions=4)
    assert summary["questions"] == 4
    assert len({e.problem_id for e in read_reward_data(workspace.out / "reward_data.parquet")}) == 4


def test_steps_of_rollouts_are_labelled_by_completing_them_and_nothing_is_sampled_anew(tmp_path: Path) -> None:
    def completes(prompt: list[int], seed: int, sample: int) -> tuple[list[int], bool]:
        text = TOKENIZER.decode(prompt)
        assert text.endswith("=\n"), text
        number = int(text.split("Answer:")[-1].split("+")[0].strip())
        return [*encode(TOKENIZER, f"\\boxed{{{number + 2 if number % 2 else 0}}}"), EOS], True

    workspace, _ = refreshed(tmp_path, PROCESS, engine=ScriptedEngine(completes))
    examples = read_reward_data(workspace.out / "reward_data.parquet")
    assert len(examples) == 22
    assert all(e.labels == [float(int(e.problem_id[1:]) % 2), float(e.correct)] for e in examples)


@pytest.mark.usefixtures("no_engine")
def test_a_dialogue_with_tools_is_read_as_in_grpo_and_labelled_at_its_end(tmp_path: Path) -> None:
    workspace, _ = refreshed(tmp_path, dialogues=True)
    examples = read_reward_data(workspace.out / "reward_data.parquet")
    prompter = Prompter(TOKENIZER, "short")
    by_id = {problem.id: problem for problem in read_problems(tmp_path / "problems" / "train.jsonl")}
    assert len(examples) == 22
    for example in examples:
        assert example.prompt == prompter.encode(by_id[example.problem_id].question, "tool", "en")
        assert example.label_ends == [len(example.completion) - 1]


def test_steps_of_dialogues_with_tools_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"grpo.format is `tool`.* Set reward.supervision to `outcome`"):
        refreshed(tmp_path, PROCESS, dialogues=True)


def test_a_policy_without_rollouts_is_refused(tmp_path: Path) -> None:
    policy, problems, reward = save_policy(tmp_path / "sft" / "model"), save_problems(tmp_path, 3), history_of(tmp_path)
    with pytest.raises(MathQuarryError, match=r"has no rollouts.parquet, and refresh.data is `rollouts`"):
        refresh_reward(
            OUTCOME, RefreshConfig(data="rollouts"), reward / "model", policy, problems, [reward], 1, Workspace.at(tmp_path / "out")
        )


def test_rollouts_of_other_problems_or_that_are_cut_are_refused(tmp_path: Path) -> None:
    policy, _ = iteration_of(tmp_path)
    rollouts = GradedRollouts.of(policy.parent)
    questions, _ = read_questions(tmp_path / "problems" / "train.jsonl", Prompter(TOKENIZER, "short"), None)
    assert [question.problem.id for question in rollouts.asked(questions)] == [f"p{number}" for number in range(10)]
    with pytest.raises(MathQuarryError, match="has no completion of a question"):
        rollouts.asked(questions[10:])
    rollouts.file.write_bytes(b"cut")
    with pytest.raises(MathQuarryError, match=r"rollouts.parquet has no rollouts: .* Run stage grpo again"):
        rollouts.asked(questions)


@pytest.mark.usefixtures("no_engine")
def test_an_interrupted_refresh_on_rollouts_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "QUESTIONS_A_PART", 4)
    whole, _ = refreshed(tmp_path, name="whole")
    read = GradedRollouts.solutions
    asked: list[int] = []

    def stops_at_the_second(self: GradedRollouts, questions: Sequence[Question]) -> list[Solution]:
        if asked:
            raise KeyboardInterrupt
        asked.append(len(questions))
        return read(self, questions)

    with monkeypatch.context() as patch:
        patch.setattr(GradedRollouts, "solutions", stops_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            refreshed(tmp_path, name="broken")
    (part,) = (tmp_path / "broken").rglob("part-*.parquet")
    before = part.stat().st_mtime_ns
    resumed, _ = refreshed(tmp_path, name="broken")
    assert part.stat().st_mtime_ns == before
    for name in ("reward_data.parquet", "model/model.safetensors"):
        assert (resumed.out / name).read_bytes() == (whole.out / name).read_bytes()
