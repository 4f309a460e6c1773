"""Solutions to train on, in segments that are trained or only read, and their file format (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json_lines
from mathquarry.data.solutions.config import SolutionFormat


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a solution. `trained` is false for program output: the model reads it, but it has no loss."""

    text: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """One solution of one problem. The joined segments are the solution's text, without the prompt."""

    problem_id: str
    question: str
    format: SolutionFormat
    language: Language
    segments: list[Segment]
    answer: str

    @property
    def text(self) -> str:
        """The whole solution."""
        return "".join(segment.text for segment in self.segments)


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples as JSON lines, atomically. Returns their number."""
    return write_json_lines(path, (asdict(example) for example in examples))


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote. Raises `MathQuarryError` naming file and line for a bad record, or the file when it is empty."""
    examples: list[Example] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    examples.append(_example(json.loads(line)))
                except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
                    raise MathQuarryError(f"{path}, line {number} is not a solution record: {error!r}.") from None
    except FileNotFoundError:
        raise MathQuarryError(f"{path} does not exist.") from None
    if not examples:
        raise MathQuarryError(f"{path} contains no solutions.")
    return examples


def _example(record: dict) -> Example:
    if record["format"] not in get_args(SolutionFormat):
        raise ValueError(f"unknown format {record['format']!r}")
    segments = [Segment(**segment) for segment in record.pop("segments")]
    return Example(segments=segments, **record)
