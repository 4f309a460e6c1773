"""The one type of problem, and its file format (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json_lines


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer.

    `solution` is the worked solution, one step per line, with GSM8K-style calculator marks (`<<48/2=24>>`) if the source has them.
    It is empty if the source has none.
    """

    id: str
    question: str
    answer: str
    solution: str = ""
    language: Language = "en"
    source: str = ""
    tolerance: float = 0.0
    """Relative error up to which a numeric answer is correct."""


def question_key(question: str) -> str:
    """Return a key that is equal for questions with the same words, whatever the case and spacing."""
    return " ".join(question.casefold().split())


def problems_of(problems: list[Problem], sets: Sequence[str]) -> list[Problem]:
    """Return the problems of some sets, by their `source`; all problems if `sets` is empty.

    Raises `MathQuarryError` for a set without problems.
    """
    if not sets:
        return problems
    known = {problem.source for problem in problems}
    if missing := [name for name in sets if name not in known]:
        raise MathQuarryError(no_such_set(missing[0], known))
    return [problem for problem in problems if problem.source in sets]


def no_such_set(name: str, known: Iterable[str]) -> str:
    """Return the message for a name in a field `problem_sets` that is not the name of a training set."""
    sets = ", ".join(sorted(known))
    return f"problem_sets names {name}, but the training problems are of {sets}. Correct the name, or add the set to problems.source.train."


def write_problems(path: Path, problems: Iterable[Problem]) -> int:
    """Write problems as JSON lines, atomically. Returns their number."""
    return write_json_lines(path, (asdict(problem) for problem in problems))


def read_problems(path: Path) -> list[Problem]:
    """Read a file of `write_problems`. Raises `MathQuarryError` with file and line for a bad record, or for an empty file."""
    problems: list[Problem] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    problems.append(Problem(**json.loads(line)))
                except (ValueError, TypeError, RecursionError) as error:
                    raise MathQuarryError(f"{path}, line {number} is not a problem record: {error}.") from None
    except FileNotFoundError:
        raise MathQuarryError(f"{path} does not exist.") from None
    if not problems:
        raise MathQuarryError(f"{path} has no problems.")
    return problems
