"""Right and wrong answers of each policy side by side, to see what the checker's verdicts are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.report.artifact import ReportArtifact
from data.report.blocks import JudgedAnswer, ProgramRun, VerdictGroup, Verdicts, count
from data.report.results import evaluations
from data.report.rollouts import shortened
from data.report.source import Source, names_table

SHOWN = 6
"""Right answers shown of a policy in a format, and as many wrong ones."""
MOST_OUTPUT = 400
"""Characters shown of what a program printed."""

FORMATS = {"cot": "chain of thought", "pot": "program of thought", "tool": "tool-integrated"}
COLUMNS = ("problem_id", "question", "gold", "format", "text", "calls", "extracted", "correct", "reason", "finished")


def verdict_block(artifacts: Sequence[ReportArtifact]) -> Verdicts | None:
    """Every evaluated policy in every format, the newest policy first; `None` where no answers were stored."""
    groups: list[VerdictGroup] = []
    asked: list[tuple[str, ReportArtifact]] = []
    for label, artifact in reversed(evaluations(artifacts)):
        path = artifact.path / "answers.parquet"
        if path.exists():
            asked.append((label, artifact))
            rows = greedy_answers(path)
            formats = list(dict.fromkeys(row.get("format", "cot") for row in rows))
            groups += [_group(label, format, [row for row in rows if row.get("format", "cot") == format]) for format in formats]
    if not groups:
        return None
    return Verdicts(
        "Right and wrong answers",
        f"Up to {SHOWN} right and {SHOWN} wrong greedy answers of each policy and format: those first in the order of the MD5 of the "
        "question's id. That is a random draw, the same for all, so policies show the same questions where their verdicts agree.",
        groups,
        source=_source(asked),
    )


def _source(asked: Sequence[tuple[str, ReportArtifact]]) -> Source:
    """The answers shown, each with how many there are of its kind."""
    known = {name for _, artifact in asked for name in pq.read_schema(artifact.path / "answers.parquet").names}
    kind = "name, correct, format" if "format" in known else "name, correct"
    query = (
        f"select name as policy, answers.*, count(*) over (partition by {kind}) as of_this_kind\n"
        f"from {names_table(asked)} join answers on key = artifact where kind = 'greedy'\n"
        f"qualify row_number() over (partition by {kind} order by md5(problem_id)) <= {SHOWN} order by {kind}, md5(problem_id)"
    )
    return Source.of((artifact for _, artifact in asked), query)


def greedy_answers(path: Path) -> list[dict[str, Any]]:
    """The greedy answers with their verdicts. Evaluations of earlier versions lack some of `COLUMNS`."""
    known = pq.read_schema(path).names
    return pq.read_table(path, columns=[name for name in COLUMNS if name in known], filters=[("kind", "==", "greedy")]).to_pylist()


def _group(label: str, format: str, rows: Sequence[dict[str, Any]]) -> VerdictGroup:
    drawn = sorted(rows, key=lambda row: md5(row["problem_id"].encode(), usedforsecurity=False).hexdigest())
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
        question=shortened(row["question"]),
        gold=row["gold"],
        answered=row.get("extracted"),
        why=row.get("reason") or ("" if row["finished"] else "cut off"),
        text=shortened(row["text"]),
        runs=[ProgramRun(shortened(call["output"], MOST_OUTPUT), call["error"] is not None) for call in row.get("calls") or []],
    )
