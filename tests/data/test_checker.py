"""The answer checker: what is equal, what is not, and what hostile output cannot do."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.config import GradeConfig
from data.errors import MathQuarryError
from data.grade import checker as checker_module
from data.grade.checker import Checker, Verdict
from data.solutions.answers import extract_answer

SHARED = Path(os.environ.get("MATHQUARRY_SHARED", Path(__file__).parents[3] / "shared"))
HANG = r"9^{9^{9^{9}}}"


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Checker(GradeConfig(timeout_seconds=20)) as checker:
        yield checker


def boxed(answer: str) -> str:
    return f"Some steps.\nThe answer is \\boxed{{{answer}}}"


@pytest.mark.parametrize(
    ("gold", "given"),
    [
        ("18", "18"),
        ("18", "18.0"),
        ("18", "\\$18"),
        ("18", "18 dollars"),
        ("1000", "1,000"),
        ("1000", "1{,}000"),
        ("1,234,567", "1234567"),
        ("0.5", "\\frac{1}{2}"),
        ("\\frac12", "1/2"),
        ("\\frac{2}{4}", "\\dfrac{1}{2}"),
        ("1/3", "0.333333"),
        ("50", "50\\%"),
        ("10\\text{ cm}", "10"),
        ("10\\text{ cm}", "10 cm"),
        ("10\\text{ cm}^2", "10"),
        ("90^\\circ", "90"),
        ("90^\\circ", "90 degrees"),
        ("\\text{Evelyn}", "evelyn"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("x+1", "1+x"),
        ("2\\cdot 3", "6"),
        ("5", "x=5"),
        ("\\sqrt{8}", "2\\sqrt{2}"),
        ("-\\frac{1}{2}", "\\frac{-1}{2}"),
        ("\\left( 1, 2 \\right)", "(1,2)"),
        ("1e-4", "0.0001"),
    ],
)
def test_equal_answers(checker: Checker, gold: str, given: str) -> None:
    assert checker.grade(boxed(given), gold).correct, checker.grade(boxed(given), gold)


@pytest.mark.parametrize(
    ("gold", "given"),
    [
        ("18", "19"),
        ("0.0004", "0.0001"),
        ("1/2000", "0"),
        ("1e-4", "0"),
        ("10^{-7}", "0.0000003"),
        ("50", "0.5"),
        ("50\\%", "0.5"),
        ("5000", "50"),
        ("(1,2]", "[1,2)"),
        ("(0,9)", "[0,9)"),
        ("(1,2)", "(2,1)"),
        ("2\\cdot 3", "23"),
        ("5t", "5"),
        ("10\\text{ cm}", "10\\text{ m}"),
        ("\\$50", "50\\%"),
        ("3+4j", "3+4i"),
        ("1,2", "12"),
        ("\\pi", "3.141"),
        ("1/3", "0.33"),
        ("\\text{Evelyn}", "\\text{Angela}"),
        ("5", ""),
        ("5", "1/0"),
        ("5", "__import__('os').system('true')"),
    ],
)
def test_different_answers(checker: Checker, gold: str, given: str) -> None:
    assert not checker.grade(boxed(given), gold).correct, checker.grade(boxed(given), gold)


def test_an_output_without_a_boxed_answer_is_wrong(checker: Checker) -> None:
    assert checker.grade("The answer is 18.", "18") == Verdict(False, "no answer")


def test_long_answers_are_not_parsed(checker: Checker) -> None:
    assert checker.grade(boxed("1+" * 600 + "1"), "601") == Verdict(False, "answer too long")


@pytest.mark.slow
def test_order_is_kept_when_easy_and_hard_answers_mix() -> None:
    pairs = [(boxed("x+1"), "1+x"), (boxed("3"), "3"), ("nothing", "1"), (boxed("x+2"), "1+x"), (boxed("4"), "3"), (boxed("x+1"), "1+x")]
    with Checker(GradeConfig(timeout_seconds=30, workers=2)) as checker:
        assert [verdict.correct for verdict in checker.grade_many(pairs)] == [True, True, False, False, False, True]


@pytest.mark.slow
def test_a_hanging_answer_is_killed_and_the_ones_after_it_are_graded() -> None:
    with Checker(GradeConfig(timeout_seconds=2)) as checker:
        verdicts = checker.grade_many([(boxed(HANG), "x+1"), (boxed("1+x"), "x+1")])
        assert verdicts == [Verdict(False, "timed out"), Verdict(True, "equal")]


@pytest.mark.slow
def test_deep_nesting_is_a_wrong_answer_and_no_crash(checker: Checker) -> None:
    assert not checker.grade(boxed("(" * 450 + "x" + ")" * 450), "y").correct
    assert not checker.grade(boxed("\\sqrt{" * 120 + "x" + "}" * 120), "y").correct
    assert checker.grade(boxed("1+x"), "x+1").correct


@pytest.mark.slow
def test_a_worker_that_was_killed_while_idle_is_replaced() -> None:
    with Checker(GradeConfig(timeout_seconds=30)) as checker:
        assert checker.same("x+1", "1+x")
        checker._workers[0].process.kill()
        checker._workers[0].process.wait()
        assert checker.same("x+3", "3+x")


def test_sameness_is_symmetric(checker: Checker) -> None:
    for a, b in [("x=5", "5"), ("x+1", "1+x"), ("(1,2]", "[1,2)"), ("3", "3.0")]:
        assert checker.same(a, b) == checker.same(b, a)


def test_simple_answers_need_no_process() -> None:
    pairs = [(boxed(str(i)), str(i + i % 2)) for i in range(10_000)]
    with Checker(GradeConfig()) as checker:
        start = time.process_time()
        verdicts = checker.grade_many(pairs)
        print(f"10,000 simple answers: {time.process_time() - start:.2f} s")
        assert checker._workers == []
    assert [verdict.correct for verdict in verdicts] == [i % 2 == 0 for i in range(10_000)]


def test_no_process_is_left_behind() -> None:
    with Checker(GradeConfig(timeout_seconds=30)) as checker:
        checker.same("x+1", "1+x")
        process = checker._workers[0].process
    assert process.poll() is not None


def test_a_checker_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_module.sys, "executable", "/bin/false")
    with Checker(GradeConfig()) as checker, pytest.raises(MathQuarryError, match="did not start"):
        checker.same("x+1", "1+x")


def gold_answers() -> list[str]:
    folder = SHARED / "data" / "problems"
    if not folder.exists():
        pytest.skip(f"{folder} is not here; set MATHQUARRY_SHARED to the folder of test data")
    answers = set()
    for name in ("gsm8k-train", "gsm8k-test", "math-train", "math-test"):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                if name.startswith("gsm8k"):
                    answers.add(record["answer"].rsplit("####", 1)[1].strip())
                elif answer := extract_answer(record["solution"]):
                    answers.add(answer)
    return sorted(answers)


def test_every_gold_answer_equals_itself_and_not_its_neighbour_plus_one() -> None:
    golds = gold_answers()
    assert len(golds) > 3000
    with Checker(GradeConfig()) as checker:
        wrong = [gold for gold in golds if not checker.grade(boxed(gold), gold).correct]
        assert wrong == []
        numbers = [gold for gold in golds if gold.isdigit()]
        assert not any(verdict.correct for verdict in checker.grade_many([(boxed(str(int(n) + 1)), n) for n in numbers]))
        assert checker._workers == []
