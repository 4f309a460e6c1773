"""What a step of the loop does, in which order, and when a run is scored on held-out questions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import mathquarry.models.rl.grpo as grpo
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.checker import Checker
from mathquarry.data.problems.problem import Problem
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.questions import Question
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.rl.config import METHODS, CollapseConfig, GRPOConfig
from mathquarry.models.rl.loop import Loop
from mathquarry.models.rl.update import sequence_logprobs
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.make import make_engine
from tests.models.rl.tiny import ScriptedEngine, sampled, save_policy, save_problems, save_reward, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
CONFIG = GRPOConfig(
    steps=5,
    prompts_per_step=2,
    group_size=2,
    learning_rate=1e-2,
    precision="float32",
    supervision="outcome",
    rollout=RolloutConfig(max_tokens=8),
    checkpoint_steps=2,
    evaluate_questions=3,
)
QUESTIONS = [Question(Problem("p", "2+2?", "4"), encode(TOKENIZER, "2+2?")), Question(Problem("q", "2+3?", "5"), encode(TOKENIZER, "2+3?"))]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    save_problems(folder / "problems", 6)
    (folder / "problems" / "train.jsonl").rename(folder / "problems" / "test.jsonl")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 12)


@contextmanager
def loop_of(config: GRPOConfig, inputs: tuple[Path, Path, Path], scratch: Path, engine: RolloutEngine | None = None) -> Iterator[Loop]:
    policy, reward, _ = inputs
    models = Models.load(config, policy, reward)
    used = engine or make_engine(config.rollout, policy)
    with Checker(config.grade) as checker:
        yield Loop(config, 1, TOKENIZER, QUESTIONS, None, QUESTIONS, models, used, checker, scratch)
    used.close()


@pytest.mark.parametrize(
    ("every", "scored"),
    [(2, [0, 2, 4, 5]), (1, [0, 1, 2, 3, 4, 5]), (5, [0, 5]), (9, [0, 5]), (None, [])],
)
def test_held_out_questions_are_scored_at_the_start_every_so_many_steps_and_at_the_end(
    every: int | None, scored: list[int], inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    workspace = Workspace.at(tmp_path)
    summary = grpo.grpo_iteration(CONFIG.model_copy(update={"evaluate_steps": every}), *inputs, 1, workspace)
    assert [record["step"] for record in workspace.metrics.read() if "test_accuracy" in record["values"]] == scored
    assert ("last_test_accuracy" in summary) is bool(scored)


def test_a_score_asks_the_configured_number_of_questions_greedily_with_room_for_an_answer(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []

    class Noted(ScriptedEngine):
        def generate(self, prompts, **options):  # type: ignore[no-untyped-def]
            asked.append({"prompts": len(prompts), **options})
            return super().generate(prompts, **options)

    engine = Noted(lambda prompt, seed, sample: ([30, EOS], True))
    monkeypatch.setattr(grpo, "make_engine", lambda *_, **__: engine)
    config = CONFIG.model_copy(
        update={"paradigm": METHODS["rft"], "steps": 1, "evaluate_steps": 9, "rollout": RolloutConfig(max_tokens=7, temperature=0.8)}
    )
    grpo.grpo_iteration(config, *inputs, 1, Workspace.at(tmp_path))
    start, sampled, end = ({name: call[name] for name in ("prompts", "n", "temperature", "max_tokens")} for call in asked)
    assert sampled == {"prompts": 2, "n": 2, "temperature": 0.8, "max_tokens": 7}
    assert start == end == {"prompts": 3, "n": 1, "temperature": 0.0, "max_tokens": 7}


@pytest.mark.parametrize("finished", [True, False])
def test_an_output_that_was_cut_is_wrong_and_earns_nothing_though_its_box_is_right(
    finished: bool, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"paradigm": METHODS["online-rft"]})
    completions = [encode(TOKENIZER, f"\\boxed{{{answer}}}") + [EOS] * finished for answer in (4, 4, 5, 7)]
    with loop_of(config, inputs, tmp_path) as loop:
        rollouts = loop.score(sampled(QUESTIONS, completions, finished))
    assert rollouts.correct == [finished, finished, finished, False]
    assert rollouts.rewards == [[float(finished)], [float(finished)], [float(finished)], [0.0]]


@pytest.mark.parametrize(("ends", "accuracy"), [(True, 0.5), (False, 0.0)])
def test_a_held_out_answer_that_was_cut_is_wrong_though_its_box_is_right(
    ends: bool, accuracy: float, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Question 1 is answered with its 4, question 2 with 4 too."""
    engine = ScriptedEngine(lambda prompt, seed, sample: (encode(TOKENIZER, "\\boxed{4}") + [EOS] * ends, ends))
    config = CONFIG.model_copy(update={"rollout": RolloutConfig(max_tokens=64)})
    with loop_of(config, inputs, tmp_path, engine) as loop:
        assert loop.test_accuracy() == accuracy


def test_a_method_without_a_reward_gives_every_completion_the_same(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"paradigm": METHODS["sft"]})
    with loop_of(config, inputs, tmp_path) as loop:
        assert loop.score(sampled(QUESTIONS, [[30, EOS], [31, EOS]], finished=True)).rewards == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("supervision", "method", "rewards"), [("process", "grpo", 2), ("outcome", "grpo", 1), ("process", "ppo", 1), ("outcome", "ppo", 1)]
)
def test_only_process_supervision_of_groups_rewards_every_step(
    supervision: str, method: str, rewards: int, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"supervision": supervision, "paradigm": METHODS[method]})
    completion = [*encode(TOKENIZER, "2+2=4\n\\boxed{4}"), EOS]
    with loop_of(config, inputs, tmp_path) as loop:
        rollouts = loop.score(sampled(QUESTIONS, [completion, completion], finished=True))
        scores = loop.models.reward_model.score(rollouts.prompts, rollouts.completions, rollouts.step_ends)  # type: ignore[union-attr]
    assert [len(row) for row in rollouts.step_ends] == [2, 2]
    assert rollouts.rewards == [row[-rewards:] for row in scores]


def logprobs_of(loop: Loop) -> list[list[float]]:
    return loop.engine.logprobs([question.prompt for question in QUESTIONS], [[30, 31], [32]])


def test_the_engine_has_the_start_policy_again_after_a_score_of_a_method_that_samples_it(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    for name in ("rft", "dpo", "online-rft"):
        config = CONFIG.model_copy(update={"paradigm": METHODS[name]})
        with loop_of(config, inputs, tmp_path) as loop:
            before = logprobs_of(loop)
            with torch.no_grad():
                for weights in loop.models.policy.model.parameters():
                    weights.mul_(1.5)
            if name == "online-rft":
                loop.weights.hand_over(loop.models.policy, "learned")
            loop.test_accuracy()
            sampler = loop.models.policy if name == "online-rft" else loop.models.reference
            expected = sequence_logprobs(sampler, [question.prompt for question in QUESTIONS], [[30, 31], [32]], config)
            after = logprobs_of(loop)
        for found, right in zip(after, expected, strict=True):
            assert found == pytest.approx(right.tolist(), abs=1e-4)
        assert (after == before) is (name != "online-rft")


def test_what_is_scored_is_the_policy_as_it_learned_also_where_the_start_policy_is_sampled(
    inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    handed: list[str] = []

    class Noted(ScriptedEngine):
        def load_live(self, model, version: str) -> None:  # type: ignore[no-untyped-def]
            handed.append("policy" if model is loop.models.policy.model else "start")

        def generate(self, prompts, **options):  # type: ignore[no-untyped-def]
            handed.append("generate")
            return super().generate(prompts, **options)

    engine = Noted(lambda prompt, seed, sample: ([30, EOS], True))
    with loop_of(CONFIG.model_copy(update={"paradigm": METHODS["rft"]}), inputs, tmp_path, engine) as loop:
        loop.test_accuracy()
    assert handed == ["policy", "generate", "start"]


def test_a_step_samples_rests_the_engine_scores_learns_hands_over_compares_and_evaluates_in_this_order(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mathquarry.models.rl.loop as module

    order: list[str] = []

    def noted(owner: object, name: str, word: str) -> None:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: (order.append(word), function(*a, **k))[1])

    with loop_of(CONFIG.model_copy(update={"evaluate_steps": 1, "probe_tolerance": 1e-3}), inputs, tmp_path) as loop:
        before = logprobs_of(loop)
        noted(loop.engine, "sleep", "sleep")
        noted(loop.sampler, "sample", "sample")
        noted(loop.grader, "score", "score")
        noted(module, "coefficients", "advantages")
        noted(module, "update_policy", "update")
        noted(loop.weights, "hand_over", "hand over")
        noted(loop.weights, "check", "compare")
        noted(loop, "test_accuracy", "evaluate")
        loop.step(1)
        assert order == ["sample", "sleep", "score", "advantages", "update", "hand over", "compare", "evaluate"]
        assert logprobs_of(loop) != before


def test_answers_are_graded_while_the_reward_model_scores(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring, grading = threading.Event(), threading.Event()

    with loop_of(CONFIG, inputs, tmp_path) as loop:
        assert loop.models.reward_model is not None
        score, grade = loop.models.reward_model.score, loop.checker.grade_many

        def score_once_grading_began(*arguments: Any) -> list[list[float]]:
            scoring.set()
            assert grading.wait(60), "grading waits for the scores"
            return score(*arguments)

        def grade_once_scoring_began(pairs: Any) -> Any:
            grading.set()
            assert scoring.wait(60), "scores wait for grading"
            return grade(pairs)

        monkeypatch.setattr(loop.models.reward_model, "score", score_once_grading_began)
        monkeypatch.setattr(loop.checker, "grade_many", grade_once_scoring_began)
        completions = [[*encode(TOKENIZER, f"\\boxed{{{answer}}}"), EOS] for answer in (4, 5, 5, 4)]
        correct = loop.score(sampled(QUESTIONS, completions, finished=True)).correct
    assert correct == [True, False, True, False]


def test_a_collapsed_step_is_logged_and_not_kept_as_the_last_checkpoint(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Completions of 8 tokens are too short for this config from the first step on: it stops at the second, whose checkpoint is due."""
    workspace = Workspace.at(tmp_path)
    config = CONFIG.model_copy(update={"collapse": CollapseConfig(steps=2, shortest_completion=9.0), "checkpoint_steps": 1})
    with pytest.raises(MathQuarryError, match="step 2: the run has collapsed"):
        grpo.grpo_iteration(config, *inputs, 1, workspace)
    assert [record["step"] for record in workspace.metrics.read()] == [1, 2]
    assert [path.name for path in (workspace.scratch / "grpo").glob("checkpoint-*")] == ["checkpoint-1"]


def test_an_engine_that_disagrees_beyond_the_tolerance_stops_the_run_before_it_samples(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tolerances on both sides of the same disagreement: an engine that stands 0.2 off."""

    def off(*arguments, **options):  # type: ignore[no-untyped-def]
        engine = make_engine(*arguments, **options)
        inner = engine.generate

        def shifted(*a, **k):  # type: ignore[no-untyped-def]
            groups = inner(*a, **k)
            for completion in (completion for group in groups for completion in group):
                completion.logprobs = [value + 0.2 for value in completion.logprobs]
            return groups

        monkeypatch.setattr(engine, "generate", shifted)
        return engine

    monkeypatch.setattr(grpo, "make_engine", off)
    config = CONFIG.model_copy(update={"steps": 1})
    grpo.grpo_iteration(config.model_copy(update={"probe_tolerance": 0.3}), *inputs, 1, Workspace.at(tmp_path / "loose"))
    workspace = Workspace.at(tmp_path / "tight")
    with pytest.raises(MathQuarryError, match="after the sync to iteration 1, step 0, .* probe_tolerance is 0.1"):
        grpo.grpo_iteration(config.model_copy(update={"probe_tolerance": 0.1}), *inputs, 1, workspace)
    assert workspace.metrics.read() == []
