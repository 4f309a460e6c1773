"""What a problem set is: how its records are read, where it is on the hub, and whether anything of it may be trained on.

Trained on and scored are two types, `TrainingProblems` and `HeldOutProblems`. Only `training` makes the first, and it refuses
benchmarks that are for scores alone and every file or split that is named as a test split.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from data.config import Language
from data.errors import MathQuarryError
from data.problems.problem import Problem
from data.problems.records import Record, read_records, set_name

TrainingProblems = NewType("TrainingProblems", list[Problem])
HeldOutProblems = NewType("HeldOutProblems", list[Problem])

_TEST_NAME = re.compile(r"(?<![A-Za-z])test|Test|TEST")


@dataclass(frozen=True)
class Dataset:
    """A problem set. `read` makes a problem of a record, or `None` of one that is not part of the set."""

    name: str
    language: Language
    read: Callable[[Record], Problem | None]
    hub_train: str | None = None
    """`hf://owner/name:config:split` of what may be trained on; `None` for a benchmark that is for scores alone."""
    hub_test: str | None = None

    def load(self, path: str) -> list[Problem]:
        """Problems of a file (JSON lines or JSON, may be gzipped) or `hf://owner/name:config:split`.

        A record that cannot be used (`Record.fault`) becomes a problem without question, for the stage to drop and count. Raises
        `MathQuarryError` naming file and line for a bad record, and for a file without problems of this set.
        """
        records = read_records(path)
        read = (Problem(record.id, "", "", source=self.name) if record.fault else self.read(record) for record in records)
        problems = [problem for problem in read if problem is not None]
        if not problems:
            raise MathQuarryError(f"{path} holds no problems of {self.name}.")
        return problems

    def training(self, path: str) -> TrainingProblems:
        """What may be trained on. Raises `MathQuarryError` for a benchmark, and for a file or split named as a test split."""
        if self.hub_train is None:
            raise MathQuarryError(
                f"problems.source.train: {self.name} is a benchmark, for scores only. What is scored may not be trained on."
            )
        if _TEST_NAME.search(set_name(path)):
            raise MathQuarryError(f"problems.source.train: {path} is named as a test split. What is scored may not be trained on.")
        return TrainingProblems(self.load(path))

    def held_out(self, path: str) -> HeldOutProblems:
        """What is only scored."""
        return HeldOutProblems(self.load(path))

    def place(self, path: str, train: bool) -> str:
        """The path itself; for `hub`, the set's own split there. Raises `MathQuarryError` where it has none."""
        if path != "hub":
            return path
        place = self.hub_train if train else self.hub_test
        if place is None:
            what = "training" if train else "test"
            raise MathQuarryError(f"{self.name} has no {what} split on the hub: name a file instead of `{self.name}=hub`.")
        return place


def options_text(record: Record, options: object) -> list[str]:
    """The texts of a question's options, letters in front removed. Raises `MathQuarryError` where there are none."""
    if isinstance(options, str):  # `A) 3 B) 4` in one string
        options = re.split(r"(?:^|(?<=\s))[A-J][).]\s+", options)[1:]
    if not isinstance(options, (list, tuple)) or len(options) < 2:
        raise MathQuarryError(f"{record.place}: no list of options in field `options` or `choices`: it is {options!r}.")
    return [re.sub(r"^\s*\(?[A-J][).:]\s*", "", str(option)).strip() for option in options]


def with_options(question: str, options: list[str]) -> str:
    """The question and its options, one a line: `(A) 3`."""
    return "\n".join([question.strip(), *(f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options))])


def choice_letters(record: Record, label: object, count: int) -> str:
    """The right option's letter, or letters in order (`AC`), from letters or positions. Raises `MathQuarryError` for any other label."""
    if isinstance(label, (list, tuple)):
        letters = [chr(ord("A") + place) if isinstance(place, int) else str(place) for place in label]
    elif isinstance(label, int) and not isinstance(label, bool):
        letters = [chr(ord("A") + label)]
    else:
        letters = re.findall("[A-Z]", str(label))
    if not letters or any(not 0 <= ord(letter) - ord("A") < count for letter in letters if len(letter) == 1):
        raise MathQuarryError(f"{record.place}: {label!r} names none of the {count} options.")
    return "".join(sorted(letters))
