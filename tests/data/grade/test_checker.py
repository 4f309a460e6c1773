"""The answer checker: equal answers, different answers, and hostile output."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade import workers
from mathquarry.data.grade.checker import Checker
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.grade.reading.notation import MAX_CHARACTERS
from mathquarry.data.grade.verdict import Verdict
from mathquarry.data.problems import gsm8k, math

HANG = r"9^{9^{9^{9}}}"
SUM = r"\sum_{k=1}^{3} k"
"""Sums are left to algebra, in its own process."""


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
        ("18", "**18**"),
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
        # percent: with a sign it is hundredths, or the number itself
        ("50\\%", "0.5"),
        ("0.5", "50\\%"),
        ("50\\%", "50 percent"),
        # numbers
        ("3\\frac12", "3.5"),
        ("3 1/2", "\\frac{7}{2}"),
        ("4.5e33", "4.5\\times 10^{33}"),
        ("-1./3", "-\\frac{1}{3}"),
        ("\\infty", "∞"),
        # lists, sets, tuples, intervals
        ("1,2", "2, 1"),
        ("1,2", "\\{2,1\\}"),
        ("1,2", "1 \\text{ and } 2"),
        ("\\pm 2", "-2, 2"),
        ("1\\pm\\sqrt{2}", "1+\\sqrt{2}, 1-\\sqrt{2}"),
        ("(1,2),(3,4)", "(3,4),(1,2)"),
        ("(-\\infty,1)\\cup(2,\\infty)", "(2,\\infty)\\cup(-\\infty,1)"),
        ("[1,2)", "1 \\le x < 2"),
        ("x>3", "(3,\\infty)"),
        # several blanks
        ("$5$;$10$", "5; 10"),
        ("$5$;$10$", "5, 10"),
        ("1;$\\frac{8}{9}$", "1；\\dfrac{8}{9}"),
        # units
        ("5\\text{ feet}", "5 ft"),
        ("11\\text{ cm}^2", "11 cm^2"),
        ("12_8", "12_{8}"),
        # multiple choice
        ("B", "(B)"),
        ("B", "B. 24"),
        ("(B)", "\\text{B}"),
        ("B", "\\textbf{(B)}\\ 24"),
        ("AC", "A, C"),
        ("A C", "C和A"),
        # Chinese
        ("18", "18元"),
        ("18", "１８。"),
        ("5千米", "5 公里"),
        ("1,2", "1或2"),
        ("\\frac{3}{4}", "4分之3"),
        ("\\textcircled{1}\\textcircled{3}", "①③"),
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
        ("50\\%", "5"),
        ("33\\%", "1/3"),
        ("\\frac{2}{5}", "4\\%"),
        ("3 1/2", "31/2"),
        ("1,1,2", "1,2"),
        ("1,2,3", "1,2"),
        ("1,2", "(1,2)"),
        ("(1,2)", "1,2"),
        ("(1,2,3)", "(1,2)"),
        ("[1,2]", "1 \\le x < 2"),
        ("(1,2),(3,4)", "(2,1),(3,4)"),
        ("$5$;$10$", "10; 5"),
        ("$5$;$10$", "5"),
        ("12_8", "12_7"),
        ("1\\text{ m}", "100\\text{ cm}"),
        ("B", "C"),
        ("B", "A or B"),
        ("AC", "A"),
        ("(C) 12", "(C) 15"),
        ("5千米", "5米"),
        ("\\frac{3}{4}", "3分之4"),
        ("5", "1/0"),
        ("5", "__import__('os').system('true')"),
    ],
)
def test_different_answers(checker: Checker, gold: str, given: str) -> None:
    assert not checker.grade(boxed(given), gold).correct, checker.grade(boxed(given), gold)


def test_only_a_whole_answer_in_bold_is_read_without_its_asterisks(checker: Checker) -> None:
    assert checker.grade(boxed("**12; 5**"), "12; 5").correct
    assert checker.grade(boxed("１２; ５"), "12; 5").correct
    for half in ("**123", "1234**"):
        assert not checker.grade(boxed(half), half.strip("*")[: len(half) - 4]).correct


def test_an_output_without_a_boxed_answer_is_wrong(checker: Checker) -> None:
    assert checker.grade("The answer is 18.", "18") == Verdict(False, "no answer")


def test_long_answers_are_not_parsed(checker: Checker) -> None:
    longest = "1" * MAX_CHARACTERS
    assert checker.grade(boxed(longest), longest).correct
    assert checker.grade(boxed(longest + "1"), longest + "1") == Verdict(False, "answer too long")
    assert checker.grade(boxed("1+" * 600 + "1"), "601") == Verdict(False, "answer too long")


class Slow:
    """A worker that needs two rounds to start and one for each question."""

    made: ClassVar[list[Slow]] = []

    def __init__(self) -> None:
        self.alive, self.rounds = True, 0
        self.task: int | None = None
        self.asked: tuple[str, str] | None = None
        Slow.made.append(self)

    @property
    def ready(self) -> bool:
        return self.rounds >= 2

    def is_running(self) -> bool:
        return self.alive

    def ask(self, number: int, question: tuple[str, str], seconds: float) -> None:
        assert self.ready, "it has not started yet"
        assert self.task is None, "it is busy"
        self.task, self.asked = number, question

    def kill(self) -> None:
        self.alive = False


def test_workers_are_asked_once_they_are_ready_and_free_and_verdicts_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def collected(workers: list[Slow]) -> list[tuple[int, Verdict]]:
        found = []
        for worker in reversed(workers):
            worker.rounds += 1
            if worker.task is not None and worker.asked is not None:
                found.append((worker.task, Verdict(worker.asked[0] == "1", worker.asked[0])))
                worker.task = None
        return found

    monkeypatch.setattr("mathquarry.data.grade.checker.Worker", Slow)
    monkeypatch.setattr("mathquarry.data.grade.checker.collect", collected)
    Slow.made.clear()
    with Checker(GradeConfig(workers=2)) as checker:
        verdicts = checker._ask_workers([(str(number % 2), "x") for number in range(5)])
        assert [verdict.correct for verdict in verdicts] == [False, True, False, True, False]
        assert len(Slow.made) == 2
        assert [verdict.correct for verdict in checker._ask_workers([("1", "x")])] == [True]
        assert len(Slow.made) == 2, "workers that run are used again"
    assert not any(worker.alive for worker in Slow.made)


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
        assert checker.same(SUM, "6")
        checker._workers[0].process.kill()
        checker._workers[0].process.wait()
        assert checker.same(SUM, "5+1")


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
        checker.same(SUM, "6")
        process = checker._workers[0].process
    assert process.poll() is not None


def test_a_checker_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with Checker(GradeConfig()) as checker, pytest.raises(MathQuarryError, match="did not start"):
        checker.same(SUM, "6")


def test_a_tolerance_widens_numbers_and_nothing_else(checker: Checker) -> None:
    pairs = [("3.02", "3.0"), ("3.04", "3.0"), ("-1", "-1"), ("1", "-1"), ("x+3.02", "x+3")]
    graded = checker.grade_many([(boxed(given), gold) for given, gold in pairs], [0.01] * len(pairs))
    assert [verdict.correct for verdict in graded] == [True, False, True, False, False]
    assert graded[0].reason == "equal within the tolerance"
    assert not checker.grade(boxed("3.02"), "3.0").correct


def test_a_reason_says_what_decided(checker: Checker) -> None:
    for given, gold, reason in [
        ("18.0", "18", "equal numbers"),
        ("19", "18", "different numbers"),
        ("(1,2]", "[1,2]", "different sets"),
        ("[1,2]", "(1,2)", "different brackets"),
        ("10 cm", "10 km", "different units"),
        ("C", "B", "another choice"),
        ("1,2,3", "1,2", "different number of parts"),
        (r"\text{Evelyn}, \text{Angela}", r"\text{Evelyn}", "different number of parts"),
        ("1, 2", r"\text{Evelyn}", "different text"),
        ("0.5", "50\%", "equal as percent"),
    ]:
        assert checker.grade(boxed(given), gold).reason == reason


def gold_answers(shared_data: Path, *names: str) -> list[str]:
    answers = []
    for name in names:
        path = str(shared_data / "problems" / f"{name}.jsonl.gz")
        problems = gsm8k.load(path) if name.startswith("gsm8k") else math.load(path)
        answers += [problem.answer for problem in problems if problem.answer]
    return answers


@pytest.mark.slow
def test_every_gold_answer_of_gsm8k_and_math_equals_itself(shared_data: Path) -> None:
    golds = gold_answers(shared_data, "gsm8k-train", "gsm8k-test", "math-train", "math-test")
    assert len(golds) > 21_000
    with Checker(GradeConfig()) as checker:
        verdicts = checker.grade_many([(boxed(gold), gold) for gold in golds])
        assert [gold for gold, verdict in zip(golds, verdicts, strict=True) if not verdict.correct] == []
        assert checker._workers == [], "no answer needs algebra to equal itself"


def mutations(gold: str) -> list[str]:
    """Wrong answers that look like the right one: another last number, another sign, other brackets, parts reordered or missing."""
    found = []
    if numbers := list(re.finditer(r"(?<![\d.,])\d+(?![\d.,])", gold)):
        last = numbers[-1]
        found.append(f"{gold[: last.start()]}{int(last[0]) + 1}{gold[last.end() :]}")
    if re.fullmatch(r"-?(\d+|\\frac\{\d+\}\{\d+\})", gold) and gold != "0":
        found.append(gold[1:] if gold.startswith("-") else f"-{gold}")
    if tuple_ := re.fullmatch(r"([\[(])([^,()]+),([^,()]+)([\])])", gold):
        opening, first, second, closing = tuple_.groups()
        found.append(f"{'[' if opening == '(' else '('}{first},{second}{closing}")
        if first.strip() != second.strip():
            found.append(f"{opening}{second},{first}{closing}")
        found.append(f"{opening}{first}{closing}")
    if fraction := re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", gold):
        found.append(rf"\frac{{{fraction[2]}}}{{{fraction[1]}}}")
    return found


@pytest.mark.slow
def test_500_mutated_gold_answers_are_rejected(shared_data: Path) -> None:
    golds = sorted(set(gold_answers(shared_data, "gsm8k-train", "math-train")))
    random.Random(0).shuffle(golds)
    plain = [gold for gold in golds if gold.isdigit()]
    pairs = [(boxed(wrong), gold) for gold in [*plain[:50], *(g for g in golds if not g.isdigit())] for wrong in mutations(gold)][:500]
    assert len(pairs) == 500
    with Checker(GradeConfig(workers=2)) as checker:
        verdicts = checker.grade_many(pairs)
    assert [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct] == []


HANGS = [HANG, r"2^{2^{2^{2^{2^{2}}}}}", r"(10^{9})!", r"\binom{10^{9}}{10^{8}}", r"\sqrt{9^{9^{9^{9}}}}+1"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to read a process's processor time")
@pytest.mark.parametrize("given", HANGS)
def test_no_grading_costs_more_processor_time_than_its_limit(given: str) -> None:
    limit, tick = 0.5, 1 / os.sysconf("SC_CLK_TCK")
    worker = subprocess.Popen(
        [sys.executable, "-m", "mathquarry.data.grade.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    with worker.stdin, worker.stdout:
        assert worker.stdout.read(1) == b"r"
        before = sum(map(int, Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[11:13])) * tick
        worker.stdin.write(json.dumps([given, "x+1", limit]).encode() + b"\n")
        reply = worker.stdout.read(1)
        worker.stdin.close()
        _, status, usage = os.wait4(worker.pid, 0)
        worker.returncode = os.waitstatus_to_exitcode(status)
    # Without a reply it was killed by its own timer; with one it was done in time and left when there was nothing more to read.
    assert (reply, worker.returncode) in ((b"", -signal.SIGPROF), (b"0", 0), (b"e", 0))
    # The kernel looks at the timer, and counts, in ticks; leaving costs something too.
    assert usage.ru_utime + usage.ru_stime - before <= limit + 20 * tick


@pytest.mark.slow
def test_10_000_math_answers_with_hangs_among_them_are_all_graded(shared_data: Path) -> None:
    golds = (gold_answers(shared_data, "math-train", "math-test"))[:10_000]
    rng = random.Random(0)
    pairs = [(boxed(gold if rng.random() < 0.9 else rng.choice(golds)), gold) for gold in golds]
    planted = sorted(rng.sample(range(len(pairs)), 10))
    for number, place in enumerate(planted):
        pairs[place] = (boxed(HANGS[number % len(HANGS)]), rf"x+{number}")
    with Checker(GradeConfig(timeout_seconds=1, workers=2)) as checker:
        verdicts = checker.grade_many(pairs)
    assert not any(verdicts[place].correct for place in planted)
    assert sum(verdicts[place].reason == "timed out" for place in planted) >= 4
    right = [verdict.correct for (text, gold), verdict in zip(pairs, verdicts, strict=True) if text == boxed(gold)]
    assert len(right) > 8_900
    assert all(right)
