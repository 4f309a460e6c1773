"""A problem set: how to read its records, where it is on the hub, and whether it may be used for training.

Training problems and held-out problems have different types, `TrainingProblems` and `HeldOutProblems`. Only `training` makes the first, and
it refuses benchmarks, and every file or split with the name of a test split.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from mathquarry.data.config import Language
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem
from mathquarry.data.problems.record import Record
from mathquarry.data.problems.records import read_records, set_name

TrainingProblems = NewType("TrainingProblems", list[Problem])
HeldOutProblems = NewType("HeldOutProblems", list[Problem])

_TEST_NAME = re.compile(r"(?<![A-Za-z])test|Test|TEST")


@dataclass(frozen=True)
class Dataset:
    """A problem set. `read` converts a record to a problem, or returns `None` if it is not part of the set."""

    name: str
    language: Language
    read: Callable[[Record], Problem | None]
    hub_train: str | None = None
    """`hf://owner/name:config:split` for training; `None` for a benchmark that is only for evaluation."""
    hub_test: str | None = None

    @property
    def may_be_trained_on(self) -> bool:
        """Whether it may be used for training, so it is not only a benchmark."""
        return self.hub_train is not None

    def load(self, path: str, encoding: str | None = None) -> list[Problem]:
        """Load the problems of a file or of `hf://owner/name:config:split`, as in `read_records`.

        A record that cannot be used (`Record.fault`) becomes a problem without a question, which the stage drops and counts. Raises
        `MathQuarryError` with file and line for a bad record, and for a file without problems of this set.
        """
        records = read_records(path, encoding)
        read = (Problem(record.id, "", "", source=self.name) if record.fault else self.read(record) for record in records)
        problems = [problem for problem in read if problem is not None]
        if not problems:
            raise MathQuarryError(f"{path} has no problems of {self.name}.")
        return problems

    def training(self, path: str, encoding: str | None = None) -> TrainingProblems:
        """Load problems for training. Raises `MathQuarryError` for a benchmark, and for a file or split with the name of a test split."""
        self.check_training(path)
        return TrainingProblems(self.load(path, encoding))

    def check_training(self, path: str) -> None:
        """Raise `MathQuarryError` for a benchmark, and for a file or split with the name of a test split."""
        if not self.may_be_trained_on:
            raise MathQuarryError(
                f"problems.source.train: {self.name} is a benchmark, for scores only. What is scored may not be trained on."
            )
        if _TEST_NAME.search(set_name(path)):
            raise MathQuarryError(f"problems.source.train: {path} is named as a test split. What is scored may not be trained on.")

    def held_out(self, path: str, encoding: str | None = None) -> HeldOutProblems:
        """Load problems for evaluation only."""
        return HeldOutProblems(self.load(path, encoding))

    def place(self, path: str, train: bool) -> str:
        """Return the path; for `hub`, the set's own split there. Raises `MathQuarryError` if it has none."""
        if path != "hub":
            return path
        place = self.hub_train if train else self.hub_test
        if place is None:
            what = "training" if train else "test"
            raise MathQuarryError(f"{self.name} has no {what} split on the hub. Give a file instead of `{self.name}=hub`.")
        return place


def options_text(record: Record, options: object) -> list[str]:
    """Return the texts of a question's options, without their letters. Raises `MathQuarryError` if there are none."""
    if isinstance(options, str):  # `A) 3 B) 4` in one string
        options = re.split(r"(?:^|(?<=\s))[A-J][).]\s+", options)[1:]
    if not isinstance(options, (list, tuple)) or len(options) < 2:
        raise MathQuarryError(f"{record.place}: no list of options in field `options` or `choices`: it is {options!r}.")
    return [re.sub(r"^\s*\(?[A-J][).:]\s*", "", str(option)).strip() for option in options]


def with_options(question: str, options: list[str]) -> str:
    """Return the question and its options, one per line: `(A) 3`."""
    return "\n".join([question.strip(), *(f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options))])


def choice_letters(record: Record, label: object, count: int) -> str:
    """Convert letters or positions to the correct option's letter, or letters in order (`AC`). Raises `MathQuarryError` for others."""
    if isinstance(label, (list, tuple)):
        letters = [chr(ord("A") + place) if isinstance(place, int) else str(place) for place in label]
    elif isinstance(label, int) and not isinstance(label, bool):
        letters = [chr(ord("A") + label)]
    else:
        letters = re.findall("[A-Z]", str(label))
    if not letters or any(not 0 <= ord(letter) - ord("A") < count for letter in letters if len(letter) == 1):
        raise MathQuarryError(f"{record.place}: {label!r} is not one of the {count} options.")
    return "".join(sorted(letters))
