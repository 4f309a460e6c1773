"""Rollouts of a GRPO iteration as reward data: completions that were graded already, instead of new samples (`refresh.data = "rollouts"`).

They come from all steps of the iteration, so from the policy as it changed, and not only from the newest one. Groups that dynamic sampling
replaced are not in the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.models.policy.questions import Question
from mathquarry.models.reward.label import Solution

FILE = "rollouts.parquet"
COLUMNS = ["problem_id", "completion", "step_ends", "finished", "correct"]
MASK = "mask"
"""Column of dialogues with tools only."""


@dataclass(frozen=True)
class GradedRollouts:
    """The completions in the `rollouts.parquet` of an iteration. Its methods raise `MathQuarryError` if it is missing or damaged."""

    file: Path

    @classmethod
    def of(cls, artifact: Path) -> GradedRollouts:
        """Return the rollouts of a `grpo` artifact."""
        if not (artifact / FILE).exists():
            raise MathQuarryError(
                f"{artifact} has no {FILE}, and refresh.data is `rollouts`. Refresh with the policy of stage grpo, or set refresh.data to "
                "`sampled`."
            )
        return cls((artifact / FILE).resolve())

    @cached_property
    def format(self) -> SolutionFormat:
        """Format of the completions: `tool` for dialogues with tools."""
        with self._opened() as table:
            return "tool" if MASK in table.schema_arrow.names else "cot"

    def asked(self, questions: Sequence[Question]) -> list[Question]:
        """Return those of `questions` that have completions, in order. Raises `MathQuarryError` if there are none."""
        with self._opened() as table:
            ids = set(table.read(COLUMNS[:1]).column(0).unique().to_pylist())
        found = [question for question in questions if question.problem.id in ids]
        if not found:
            raise MathQuarryError(
                f"{self.file} has no completion of a question that the reward model can read. Set refresh.data to `sampled`."
            )
        return found

    def solutions(self, questions: Sequence[Question]) -> list[Solution]:
        """Return the completions of some questions: question by question, in the order of the steps. Equal ones are kept once.

        Only the steps that asked one of the questions are read.
        """
        wanted = pa.array([question.problem.id for question in questions])
        rows: dict[str, dict[tuple[int, ...], dict]] = defaultdict(dict)
        with self._opened() as table:
            for step in range(table.num_row_groups):
                asked = pc.is_in(table.read_row_group(step, COLUMNS[:1]).column(0), wanted)
                if pc.any(asked).as_py():
                    for row in table.read_row_group(step, COLUMNS).filter(asked).to_pylist():
                        rows[row["problem_id"]].setdefault(tuple(row["completion"]), row)
        return [
            Solution(
                question.problem.id,
                question.problem.answer,
                question.prompt,
                row["completion"],
                row["step_ends"],
                row["finished"],
                row["correct"],
            )
            for question in questions
            for row in rows[question.problem.id].values()
        ]

    def _opened(self) -> pq.ParquetFile:
        try:
            table = pq.ParquetFile(self.file)
            if missing := set(COLUMNS) - set(table.schema_arrow.names):
                raise pa.ArrowInvalid(f"it has no column {min(missing)}")
        except (OSError, pa.ArrowException) as error:
            raise MathQuarryError(f"{self.file} has no rollouts: {error}. Run stage grpo again.") from error
        return table
