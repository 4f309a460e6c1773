"""Right and wrong answers of each policy side by side, to see what the checker's verdicts are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.report.artifact import ReportArtifact
from data.report.blocks import JudgedAnswer, ProgramRun, VerdictGroup, Verdicts, count
from data.report.results import evaluations
from data.report.rollouts import MOST_CHARACTERS

SHOWN = 6
"""Right answers shown of a policy in a format, and as many wrong ones."""
MOST_OUTPUT = 400
"""Characters shown of what a program printed."""

FORMATS = {"cot": "chain of thought", "pot": "program of thought", "tool": "tool-integrated"}
COLUMNS = ("problem_id", "question", "gold", "format", "text", "calls", "extracted", "correct", "reason", "finished")


def verdict_block(artifacts: Sequence[ReportArtifact]) -> Verdicts | None:
    """Every evaluated policy in every format, the newest policy first; `None` where no answers were stored."""
    groups: list[VerdictGroup] = []
    for label, artifact in reversed(evaluations(artifacts)):
        path = artifact.path / "answers.parquet"
        if path.exists():
            rows = greedy_answers(path)
            formats = list(dict.fromkeys(row.get("format", "cot") for row in rows))
            groups += [_group(label, format, [row for row in rows if row.get("format", "cot") == format]) for format in formats]
    if not groups:
        return None
    return Verdicts(
        "Right and wrong answers",
        f"Up to {SHOWN} right and {SHOWN} wrong greedy answers of each policy and format: those first in the order of a hash of the "
        "question's id. That is a random draw, the same for all, so policies show the same questions where their verdicts agree.",
        groups,
    )


def greedy_answers(path: Path) -> list[dict[str, Any]]:
    """The greedy answers with their verdicts. Evaluations of earlier versions lack some of `COLUMNS`."""
    known = pq.read_schema(path).names
    return pq.read_table(path, columns=[name for name in COLUMNS if name in known], filters=[("kind", "==", "greedy")]).to_pylist()


def _group(label: str, format: str, rows: Sequence[dict[str, Any]]) -> VerdictGroup:
    drawn = sorted(rows, key=lambda row: blake2b(row["problem_id"].encode(), digest_size=8).digest())
    right, wrong = [row for row in drawn if row["correct"]], [row for row in drawn if not row["correct"]]
    # What a program said when it failed differs from one to the next.
    reasons = Counter(row["reason"].partition(":")[0] for row in wrong if row.get("reason"))
    return VerdictGroup(
        f"{label}, {FORMATS.get(format, format)}",
        f"{count(len(right))} of {count(len(rows))} right",
        ", ".join(f"{reason} {count(number)}" for reason, number in reasons.most_common()),
        [_answer(row) for row in right[:SHOWN]],
        [_answer(row) for row in wrong[:SHOWN]],
    )


def _answer(row: dict[str, Any]) -> JudgedAnswer:
    return JudgedAnswer(
        question=row["question"],
        gold=row["gold"],
        answered=row.get("extracted"),
        why=row.get("reason") or ("" if row["finished"] else "cut off"),
        text=_shortened(row["text"], MOST_CHARACTERS),
        runs=[ProgramRun(_shortened(call["output"], MOST_OUTPUT), call["error"] is not None) for call in row.get("calls") or []],
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} […]"
