"""Correct and wrong answers of each policy side by side, to check how they were graded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import GradedAnswer, ProgramRun, VerdictGroup, Verdicts, count
from mathquarry.data.report.page.source import Source, names_table
from mathquarry.data.report.sections.policies import evaluations
from mathquarry.data.report.sections.rollouts import shortened

SHOWN = 6
"""Correct answers shown per policy and format, and as many wrong ones."""
MOST_OUTPUT = 400
"""Maximum characters of a program's output."""

FORMATS = {"cot": "chain of thought", "pot": "program of thought", "tool": "tool-integrated"}
COLUMNS = ("problem_id", "question", "gold", "format", "text", "calls", "extracted", "correct", "reason", "lenient_correct", "finished")


def verdict_block(artifacts: Sequence[ReportArtifact]) -> Verdicts | None:
    """Show every evaluated policy in every format, the latest policy first; `None` if no answers were stored."""
    groups: list[VerdictGroup] = []
    asked: list[tuple[str, ReportArtifact]] = []
    for label, artifact in reversed(evaluations(artifacts)):
        path = artifact.path / "answers.parquet"
        if path.exists():
            asked.append((label, artifact))
            groups += _groups(label, path)
    return _verdicts(groups, _source(asked)) if groups else None


def answers_of(label: str, path: Path, source: Source) -> Verdicts:
    """Show correct and wrong answers in one `answers.parquet`."""
    return _verdicts(_groups(label, path), source)


def _verdicts(groups: Sequence[VerdictGroup], source: Source) -> Verdicts:
    return Verdicts(
        "Correct and wrong answers",
        f"Up to {SHOWN} correct and {SHOWN} wrong greedy answers of each policy and format: the first ones in the order of the MD5 of the "
        "question's id. This is a random choice that is the same for all policies, so they show the same questions if their grades agree.",
        groups,
        source=source,
    )


def _groups(label: str, path: Path) -> list[VerdictGroup]:
    rows = greedy_answers(path)
    formats = list(dict.fromkeys(row.get("format", "cot") for row in rows))
    return [_group(label, format, [row for row in rows if row.get("format", "cot") == format]) for format in formats]


def _source(asked: Sequence[tuple[str, ReportArtifact]]) -> Source:
    """Return the query for the answers shown, with the number of answers of each kind."""
    known = {name for _, artifact in asked for name in pq.read_schema(artifact.path / "answers.parquet").names}
    kind = "name, correct, format" if "format" in known else "name, correct"
    query = (
        f"select name as policy, answers.*, count(*) over (partition by {kind}) as of_this_kind\n"
        f"from {names_table(asked)} join answers on key = artifact where kind = 'greedy'\n"
        f"qualify row_number() over (partition by {kind} order by md5(problem_id)) <= {SHOWN} order by {kind}, md5(problem_id)"
    )
    return Source.of((artifact for _, artifact in asked), query)


def greedy_answers(path: Path) -> list[dict[str, Any]]:
    """Return the greedy answers with their grades. Evaluations of earlier versions lack some of `COLUMNS`."""
    known = pq.read_schema(path).names
    return pq.read_table(path, columns=[name for name in COLUMNS if name in known], filters=[("kind", "==", "greedy")]).to_pylist()


def _group(label: str, format: str, rows: Sequence[dict[str, Any]]) -> VerdictGroup:
    drawn = sorted(rows, key=lambda row: md5(row["problem_id"].encode(), usedforsecurity=False).hexdigest())
    right, wrong = [row for row in drawn if row["correct"]], [row for row in drawn if not row["correct"]]
    # Error messages of failed programs differ from each other.
    reasons = Counter(row["reason"].partition(":")[0] for row in wrong if row.get("reason"))
    return VerdictGroup(
        f"{label}, {FORMATS.get(format, format)}",
        f"{count(len(right))} of {count(len(rows))} correct" + _leniently(rows),
        ", ".join(f"{reason} {count(number)}" for reason, number in reasons.most_common()),
        [_answer(row) for row in right[:SHOWN]],
        [_answer(row) for row in wrong[:SHOWN]],
    )


def _why(row: dict[str, Any]) -> str:
    reason = row.get("reason") or ("" if row["finished"] else "truncated")
    return f"{reason}; correct with the lenient reading" if row.get("lenient_correct") and not row["correct"] else reason


def _leniently(rows: Sequence[dict[str, Any]]) -> str:
    """Return the number of correct answers with the lenient reading; empty for evaluations of earlier versions."""
    right = [row["lenient_correct"] for row in rows if row.get("lenient_correct") is not None]
    return f", {count(sum(right))} with the lenient reading" if right else ""


def _answer(row: dict[str, Any]) -> GradedAnswer:
    return GradedAnswer(
        question=shortened(row["question"]),
        gold=row["gold"],
        answered=row.get("extracted"),
        why=_why(row),
        text=shortened(row["text"]),
        runs=[ProgramRun(shortened(call["output"], MOST_OUTPUT), call["error"] is not None) for call in row.get("calls") or []],
    )
