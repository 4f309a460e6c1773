"""Stage `problems`: training problems, held-out problems, and further benchmarks for decontamination."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal, get_args

from data.config import GeneratedProblems, ProblemFiles, ProblemsConfig
from data.errors import MathQuarryError
from data.files import write_json_lines
from data.problems import benchmark
from data.problems.dataset import HeldOutProblems, TrainingProblems
from data.problems.generated import generate_problems
from data.problems.problem import Problem, write_problems
from data.problems.records import set_name
from data.problems.registry import find
from data.workspace import Workspace

TRAIN, TEST, BENCHMARKS = "train.jsonl", "test.jsonl", "benchmarks.jsonl"
"""Files of the artifact. Each holds `Problem` records; only the last may be empty."""
DROPPED = "dropped.jsonl"
"""One line a problem left out: {"id", "split", "reason"}."""
DropReason = Literal["held-out", "no-answer", "unreadable"]


def build_problems(config: ProblemsConfig, space: Workspace) -> dict[str, int]:
    """Write train.jsonl, test.jsonl, benchmarks.jsonl and dropped.jsonl; returns counts.

    A training problem whose question is also held out, or stands in a benchmark, is dropped, and so is a problem without answer, and
    one whose record cannot be used (too deep, half a surrogate pair, a number of thousands of digits). Raises
    `MathQuarryError` for a file that cannot be read, for a training file named as a test split, and when no problem is left.
    """
    if isinstance(config.source, GeneratedProblems):
        train, test = generate_problems(config.source, config.seed)
    else:
        train, test = _from_files(config.source)
    benchmarks = _load_all((path, benchmark.load) for path in config.benchmarks)

    dropped: list[dict[str, str]] = [
        {"id": problem.id, "split": "benchmarks", "reason": "unreadable"} for problem in benchmarks if not problem.question
    ]
    benchmarks = [problem for problem in benchmarks if problem.question]
    held_out = {question_key(problem) for problem in [*test, *benchmarks] if problem.question}
    train = _keep("train", train, held_out, dropped)
    test = _keep("test", test, set(), dropped)
    if isinstance(config.source, ProblemFiles):
        train = shuffled_head(train, config.source.train_limit, config.seed)
        test = shuffled_head(test, config.source.test_limit, config.seed)

    summary = {
        "train": write_problems(space.out / TRAIN, train),
        "test": write_problems(space.out / TEST, test),
        "benchmarks": write_problems(space.out / BENCHMARKS, benchmarks),
    }
    write_json_lines(space.out / DROPPED, dropped)
    return summary | {f"dropped_{reason}": sum(record["reason"] == reason for record in dropped) for reason in get_args(DropReason)}


def _keep(split: str, problems: list[Problem], held_out: set[str], dropped: list[dict[str, str]]) -> list[Problem]:
    """The problems to use; the others are added to `dropped`."""
    kept: list[Problem] = []
    for problem in problems:
        reason: DropReason | None = None
        if not problem.question:
            reason = "unreadable"
        elif not problem.answer:
            reason = "no-answer"
        elif question_key(problem) in held_out:
            reason = "held-out"
        if reason is None:
            kept.append(problem)
        else:
            dropped.append({"id": problem.id, "split": split, "reason": reason})
    if not kept:
        raise MathQuarryError(
            f"problems.source.{split}: none of its {len(problems)} problems can be used; the last was dropped as {dropped[-1]['reason']}."
        )
    return kept


def question_key(problem: Problem) -> str:
    """What makes two questions the same: their words, whatever the case and spacing."""
    return " ".join(problem.question.casefold().split())


def shuffled_head(problems: list[Problem], limit: int | None, seed: int) -> list[Problem]:
    """The first `limit` after a seeded shuffle; without a limit, all in their own order."""
    if limit is None:
        return problems
    order = list(problems)
    random.Random(f"problem limit/{seed}").shuffle(order)
    return order[:limit]


def _from_files(source: ProblemFiles) -> tuple[TrainingProblems, HeldOutProblems]:
    for field, paths in (("train", source.train), ("test", source.test)):
        if not paths:
            raise MathQuarryError(f"problems.source.{field} is empty: name at least one file.")
    train = [find(entry, source.dataset, train=True) for entry in source.train]
    test = [find(entry, source.dataset, train=False) for entry in source.test]
    return (
        TrainingProblems(_load_all([(path, dataset.training) for dataset, path in train])),
        HeldOutProblems(_load_all([(path, dataset.held_out) for dataset, path in test])),
    )


def _load_all(files: Iterable[tuple[str, Callable[[str], list[Problem]]]]) -> list[Problem]:
    """Problems of several files. Their ids come from the files' names, so two files of one name are refused."""
    named: dict[str, str] = {}
    problems: list[Problem] = []
    for path, loader in files:
        name = set_name(path)
        if name in named:
            raise MathQuarryError(f"{path} and {named[name]} are both named {name}, and problem ids come from names: rename or drop one.")
        named[name] = path
        problems += loader(path)
    return problems
