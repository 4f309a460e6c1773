"""The one type of problem, and its file format (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from data.config import Language
from data.errors import MathQuarryError
from data.files import write_json_lines


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer.

    `solution` is the worked solution, one step a line; GSM8K-style calculator marks (`<<48/2=24>>`) where the source has them.
    It is empty where the source gives none.
    """

    id: str
    question: str
    answer: str
    solution: str = ""
    language: Language = "en"
    source: str = ""
    tolerance: float = 0.0
    """Relative error up to which a numeric answer is right."""


def write_problems(path: Path, problems: Iterable[Problem]) -> int:
    """Write problems as JSON lines, atomically. Returns how many."""
    return write_json_lines(path, (asdict(problem) for problem in problems))


def read_problems(path: Path) -> list[Problem]:
    """Read what `write_problems` wrote. Raises `MathQuarryError` naming file and line for a bad record, or the file when it is empty."""
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
        raise MathQuarryError(f"{path} holds no problems.")
    return problems
