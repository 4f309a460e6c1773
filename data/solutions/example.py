"""Solutions to train on, in segments that are learnt or only read, and their file format (JSON lines)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from data.config import Language, SolutionFormat
from data.errors import MathQuarryError
from data.files import write_json_lines


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a solution. `trained` is false for what a program printed: the model reads it and gets no loss on it."""

    text: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """One solution of one problem. The segments joined are the solution's text; the prompt is not among them."""

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
    """Write examples as JSON lines, atomically. Returns how many."""
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
        raise MathQuarryError(f"{path} holds no solutions.")
    return examples


def _example(record: dict) -> Example:
    if record["format"] not in get_args(SolutionFormat):
        raise ValueError(f"unknown format {record['format']!r}")
    segments = [Segment(**segment) for segment in record.pop("segments")]
    return Example(segments=segments, **record)
