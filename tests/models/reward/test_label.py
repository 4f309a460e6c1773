"""Math-Shepherd labels with a scripted engine."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from mathquarry.data.grade.verdict import Verdict
from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.reward.config import LabelConfig
from mathquarry.models.reward.label import Solution, label_steps
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.tiny import ScriptedEngine, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
MARKER = StepMarker(TOKENIZER)
EOS = TOKENIZER.eos_token_id
PROMPT = encode(TOKENIZER, "3+4-2?")


def grade(pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    """Correct if the text ends with the gold answer."""
    return [Verdict(text.endswith(gold), "test") for text, gold in pairs]


def solution(text: str, *, finished: bool = True) -> Solution:
    completion = encode(TOKENIZER, text) + ([EOS] if finished else [])
    return Solution("p", "=5", PROMPT, completion, MARKER.ends(completion), finished, finished and text.endswith("=5"))


def completer(successes: dict[str, str]) -> ScriptedEngine:
    """Completes a prefix to the correct answer if its word has a `+`, and to a wrong one otherwise."""
    completed: Counter[str] = Counter()

    def script(tokens: list[int], seed: int, sample: int) -> tuple[list[int], bool]:
        prefix = TOKENIZER.decode(tokens[len(PROMPT) :])
        completed[prefix] += 1
        return [*encode(TOKENIZER, "x=5" if successes[prefix][completed[prefix] - 1] == "+" else "x=6"), EOS], True

    return ScriptedEngine(script)


def label(
    solutions: list[Solution], engine: ScriptedEngine, estimate: str = "hard", max_tokens: int = 50, completions: int = 4
) -> list[list[float]]:
    config = LabelConfig(completions=completions, estimate=estimate)  # type: ignore[arg-type]
    return label_steps(solutions, engine, grade, TOKENIZER, config, RolloutConfig(max_tokens=max_tokens), seed=0)


SUCCESSES = {"3+4=7\n": "+-++", "3+4=8\n": "----", "3+4=7\n7-2=4\n": "---+"}


def test_hard_labels_are_1_if_any_completion_is_right() -> None:
    wrong_late = solution("3+4=7\n7-2=4\nx=4")
    assert label([wrong_late, solution("3+4=8\nx=6")], completer(SUCCESSES)) == [[1, 1, 0], [0, 0]]


def test_soft_labels_are_the_share_of_right_completions() -> None:
    assert label([solution("3+4=7\n7-2=4\nx=4")], completer(SUCCESSES), "soft") == [[0.75, 0.25, 0]]


def test_the_last_label_is_whether_the_answer_itself_is_right() -> None:
    engine = completer(SUCCESSES)
    assert label([solution("x=5"), solution("x=6")], engine) == [[1], [0]]
    assert engine.asked == []


def test_prefixes_that_several_solutions_share_are_completed_once() -> None:
    engine = completer(SUCCESSES)
    label([solution("3+4=7\nx=5"), solution("3+4=7\nx=4"), solution("3+4=7\n7-2=4\nx=4")], engine, "soft")
    assert sum(engine.samples) == 2 * 4


def test_a_hard_label_is_decided_by_the_first_right_completion() -> None:
    for prefix, sampled in (("3+4=7\n", 1), ("3+4=8\n", 4), ("3+4=7\n7-2=4\n", 1 + 4)):
        engine = completer(SUCCESSES)
        label([solution(prefix + "x=4")], engine)
        assert sum(engine.samples) == sampled


@pytest.mark.parametrize("completions", [1, 3, 8])
def test_hard_labels_are_those_of_all_completions_and_take_fewer(completions: int) -> None:
    def script(tokens: list[int], seed: int, sample: int) -> tuple[list[int], bool]:
        right = random.Random(f"{seed} {sample}").random() < 0.3
        return [*encode(TOKENIZER, "x=5" if right else "x=6"), EOS], True

    solutions = [solution(f"{a}+{b}=7\n7-{a}={b}\nx={b}") for a in range(6) for b in range(6)]
    every, few = ScriptedEngine(script), ScriptedEngine(script)
    shares = label(solutions, every, "soft", completions=completions)
    labels = label(solutions, few, "hard", completions=completions)
    assert labels == [[float(share > 0) for share in row] for row in shares]
    assert {value for row in labels for value in row} == {0.0, 1.0}
    assert sum(every.samples) == 2 * 36 * completions
    assert sum(few.samples) < sum(every.samples) or completions == 1


def test_seeds_depend_on_the_prefix_and_not_on_the_other_solutions() -> None:
    alone, together = completer(SUCCESSES), completer(SUCCESSES)
    label([solution("3+4=8\nx=6")], alone)
    label([solution("3+4=7\nx=5"), solution("3+4=8\nx=6")], together)
    assert set(alone.seeds) < set(together.seeds)
    assert len(set(together.seeds)) == len(together.seeds)


def test_a_completion_that_needs_more_than_the_tokens_left_does_not_count() -> None:
    prefix = len(encode(TOKENIZER, "3+4=7\n"))
    needed = len(encode(TOKENIZER, "x=5")) + 1
    good = solution("3+4=7\nx=5")
    assert label([good], completer(SUCCESSES), max_tokens=prefix + needed) == [[1, 1]]
    assert label([good], completer(SUCCESSES), max_tokens=prefix + needed - 1) == [[0, 1]]


def test_a_prefix_that_used_up_all_tokens_is_not_completed() -> None:
    engine = completer(SUCCESSES)
    assert label([solution("3+4=7\nx=5")], engine, max_tokens=2) == [[0, 1]]
    assert engine.asked == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_completion_that_was_cut_is_wrong(finished: bool) -> None:
    engine = ScriptedEngine(lambda prompt, seed, sample: (encode(TOKENIZER, "x=5"), finished))
    assert label([solution("3+4=7\nx=5")], engine) == [[float(finished), 1]]
