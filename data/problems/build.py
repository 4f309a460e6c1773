"""Stage `problems`: training problems, held-out problems, and more benchmarks for decontamination."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal, get_args

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json_lines
from mathquarry.data.problems import benchmark
from mathquarry.data.problems.config import GeneratedProblems, ProblemFiles, ProblemsConfig
from mathquarry.data.problems.dataset import HeldOutProblems, TrainingProblems
from mathquarry.data.problems.generated import generate_problems
from mathquarry.data.problems.problem import Problem, question_key, write_problems
from mathquarry.data.problems.records import set_name
from mathquarry.data.problems.registry import find
from mathquarry.data.problems.unpacked import check_encoding
from mathquarry.data.store.workspace import Workspace

TRAIN, TEST, BENCHMARKS = "train.jsonl", "test.jsonl", "benchmarks.jsonl"
"""Files of the artifact with `Problem` records. Only the last can be empty."""
DROPPED = "dropped.jsonl"
"""File with one line per dropped problem: {"id", "split", "reason"}."""
DropReason = Literal["held-out", "no-answer", "unreadable", "repeated"]


def build_problems(config: ProblemsConfig, workspace: Workspace) -> dict[str, int]:
    """Write train.jsonl, test.jsonl, benchmarks.jsonl and dropped.jsonl. Returns counts.

    A training problem is dropped if its question is held out or in a benchmark. Any problem is dropped if it has no answer, if its record
    cannot be used (nested too deeply, half a surrogate pair, a number with thousands of digits), or if its set has `repeated = "drop"` and
    its question occurred before. Raises `MathQuarryError` if a file cannot be read, if a training file is named as a test split, or if no
    problem is left.
    """
    check_encoding(config.encoding)
    if isinstance(config.source, GeneratedProblems):
        train, test = generate_problems(config.source, config.seed)
    else:
        train, test = _from_files(config.source, config.encoding)
    benchmarks = _load_all(((path, benchmark.load) for path in config.benchmarks), config.encoding)

    dropped: list[dict[str, str]] = [
        {"id": problem.id, "split": "benchmarks", "reason": "unreadable"} for problem in benchmarks if not problem.question
    ]
    benchmarks = [problem for problem in benchmarks if problem.question]
    held_out = {question_key(problem.question) for problem in [*test, *benchmarks] if problem.question}
    sets = config.source.sets if isinstance(config.source, ProblemFiles) else {}
    once = frozenset(name for name, columns in sets.items() if columns.repeated == "drop")
    train = _keep("train", train, held_out, once, dropped)
    test = _keep("test", test, set(), once, dropped)
    if isinstance(config.source, ProblemFiles):
        train = shuffled_head(train, config.source.train_limit, config.seed)
        test = shuffled_head(test, config.source.test_limit, config.seed)

    summary = {
        "train": write_problems(workspace.out / TRAIN, train),
        "test": write_problems(workspace.out / TEST, test),
        "benchmarks": write_problems(workspace.out / BENCHMARKS, benchmarks),
    }
    write_json_lines(workspace.out / DROPPED, dropped)
    return summary | {f"dropped_{reason}": sum(record["reason"] == reason for record in dropped) for reason in get_args(DropReason)}


def _keep(split: str, problems: list[Problem], held_out: set[str], once: frozenset[str], dropped: list[dict[str, str]]) -> list[Problem]:
    """Return the problems to use, and add the others to `dropped`. In a set in `once`, each question is used once."""
    kept: list[Problem] = []
    asked: set[tuple[str, str]] = set()
    for problem in problems:
        reason: DropReason | None = None
        if not problem.question:
            reason = "unreadable"
        elif not problem.answer:
            reason = "no-answer"
        elif question_key(problem.question) in held_out:
            reason = "held-out"
        elif problem.source in once and (problem.source, question_key(problem.question)) in asked:
            reason = "repeated"
        if reason is None:
            kept.append(problem)
            asked.add((problem.source, question_key(problem.question)))
        else:
            dropped.append({"id": problem.id, "split": split, "reason": reason})
    if not kept:
        raise MathQuarryError(
            f"problems.source.{split}: none of its {len(problems)} problems can be used; the last was dropped as {dropped[-1]['reason']}."
        )
    return kept


def shuffled_head(problems: list[Problem], limit: int | None, seed: int) -> list[Problem]:
    """Return the first `limit` problems after a seeded shuffle; without a limit, all in their original order."""
    if limit is None:
        return problems
    order = list(problems)
    random.Random(f"problem limit/{seed}").shuffle(order)
    return order[:limit]


def _from_files(source: ProblemFiles, encoding: str | None) -> tuple[TrainingProblems, HeldOutProblems]:
    for field, paths in (("train", source.train), ("test", source.test)):
        if not paths:
            raise MathQuarryError(f"problems.source.{field} is empty: give at least one file.")
    train = [find(entry, source, train=True) for entry in source.train]
    test = [find(entry, source, train=False) for entry in source.test]
    return (
        TrainingProblems(_load_all([(path, dataset.training) for dataset, path in train], encoding)),
        HeldOutProblems(_load_all([(path, dataset.held_out) for dataset, path in test], encoding)),
    )


def _load_all(files: Iterable[tuple[str, Callable[[str, str | None], list[Problem]]]], encoding: str | None) -> list[Problem]:
    """Load problems from several files. Their ids are based on the files' names, so two files with the same name are refused."""
    named: dict[str, str] = {}
    problems: list[Problem] = []
    for path, loader in files:
        name = set_name(path)
        if name in named:
            raise MathQuarryError(
                f"{path} and {named[name]} are both named {name}, and problem ids are based on names: rename or remove one."
            )
        named[name] = path
        problems += loader(path, encoding)
    return problems
