"""The user's own problem sets, read by the columns in the recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.benchmark import language_of
from mathquarry.data.problems.columns import HASH, column_answer, column_text
from mathquarry.data.problems.config import OwnProblems
from mathquarry.data.problems.dataset import Dataset
from mathquarry.data.problems.problem import Problem, question_key
from mathquarry.data.problems.record import Record
from mathquarry.data.problems.records import read_records


@dataclass(frozen=True)
class OwnDataset(Dataset):
    """Reads with `columns`. It may be used for training, unless the file or split has the name of a test split."""

    columns: OwnProblems = field(default_factory=OwnProblems)

    @property
    def may_be_trained_on(self) -> bool:
        """Users decide themselves how to use their own sets."""
        return True

    def load(self, path: str, encoding: str | None = None) -> list[Problem]:
        """See `Dataset.load`. Raises `MathQuarryError` with file, row and column for any row that cannot be read as the recipe says, and
        for a repeated question unless `repeated` is `drop`."""
        problems: list[Problem] = []
        asked: dict[str, tuple[str, str]] = {}
        for record in read_records(path, encoding):
            problem = read_row(self.name, self.columns, record)
            place, answer = asked.setdefault(question_key(problem.question), (record.place, problem.answer))
            if place != record.place and self.columns.repeated == "error":
                differs = "" if answer == problem.answer else f" with another answer ({problem.answer[:40]!r}, not {answer[:40]!r})"
                raise MathQuarryError(
                    f"{record.place} has the same question as {place}{differs}. Remove one, or set "
                    f'problems.source.sets.{self.name}.repeated = "drop" to keep the first of such rows.'
                )
            problems.append(problem)
        return problems


def own_dataset(name: str, columns: OwnProblems) -> OwnDataset:
    """Return the set with the recipe's name `name`."""
    return OwnDataset(name, columns.language or "en", partial(read_row, name, columns), columns=columns)


def read_row(name: str, columns: OwnProblems, record: Record) -> Problem:
    """Convert a row to a problem. Raises `MathQuarryError` with file, row and column if that fails."""
    question = column_text(record, columns.question).strip()
    answer = column_answer(record, columns.answer, columns.answer_from, f"answer_from of set {name}")
    solution = ""
    if columns.solution is not None:
        solution = column_text(record, columns.solution).strip()
    elif columns.answer_from != "text":
        solution = column_text(record, columns.answer).strip()
    return Problem(record.id, question, answer, without_hash(solution), columns.language or language_of(question), name)


def without_hash(solution: str) -> str:
    """Return a solution without the line of its answer, `#### 72`."""
    return solution.rpartition(HASH)[0].strip() if HASH in solution else solution
