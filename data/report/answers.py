"""Section "answers": the same held-out questions, answered greedily by each policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.report.artifact import ReportArtifact
from data.report.blocks import Group, Groups, Sample, Section
from data.report.results import evaluations
from data.report.rollouts import split_steps
from data.report.verdicts import verdict_block

QUESTIONS = 6
COLUMNS = ["question", "gold", "text", "correct", "finished"]

Answers = list[tuple[str, dict[str, Any]]]


def answer_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Questions whose verdict changed between the last two policies first, gained and lost alike, then the others in their order."""
    by_question: dict[str, Answers] = {}
    for label, artifact in evaluations(artifacts):
        path = artifact.path / "answers.parquet"
        if path.exists():
            table = pq.read_table(path, columns=[*COLUMNS, "problem_id"], filters=_greedy(path))
            for row in table.to_pylist():
                by_question.setdefault(row["problem_id"], []).append((label, row))
    if not by_question:
        return None
    gained: list[Answers] = []
    lost: list[Answers] = []
    rest: list[Answers] = []
    for answers in by_question.values():
        before, after = answers[-2:] if len(answers) > 1 else answers * 2
        change = after[1]["correct"] - before[1]["correct"]
        (gained if change > 0 else lost if change < 0 else rest).append(answers)
    half = QUESTIONS // 2
    chosen = [*gained[:half], *lost[:half], *rest][:QUESTIONS]
    judged = verdict_block(artifacts)
    labels = [label for label, _ in evaluations(artifacts)]
    lead = "Greedy answers to held-out questions by each policy."
    if len(labels) > 1:
        lead += f" From {labels[-2]} to {labels[-1]}, {len(gained)} questions were gained and {len(lost)} lost; some of both come first."
    return Section(
        "answers",
        "Answers",
        lead,
        [Groups("The same questions by every policy", [_group(answers) for answers in chosen]), *([judged] if judged else [])],
    )


def _greedy(path: Path) -> list[tuple[str, str, str]]:
    """Greedy answers in the first format; scores of earlier versions know no formats."""
    filters = [("kind", "==", "greedy")]
    if "format" in pq.read_schema(path).names:
        filters.append(("format", "==", pq.read_table(path, columns=["format"])["format"][0].as_py()))
    return filters


def _group(answers: Answers) -> Group:
    right = sum(row["correct"] for _, row in answers)
    samples = [
        Sample(steps=split_steps(row["text"]), correct=row["correct"], finished=row["finished"], label=label) for label, row in answers
    ]
    return Group(answers[0][1]["question"], answers[0][1]["gold"], f"{right} of {len(answers)} right", samples)
