"""Section "answers": greedy answers of each policy to the same held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Group, Groups, Sample, Section, count
from mathquarry.data.report.page.source import Source, literal, names_table, strings
from mathquarry.data.report.sections.policies import evaluations
from mathquarry.data.report.sections.rollouts import shortened, split_steps
from mathquarry.data.report.sections.verdicts import verdict_block

QUESTIONS = 6
COLUMNS = ["question", "gold", "text", "correct", "finished"]

Answers = list[tuple[str, dict[str, Any]]]


def answer_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show questions whose grade changed between the last two policies first (gained and lost), then the others in order."""
    by_question: dict[str, Answers] = {}
    asked: list[tuple[str, ReportArtifact]] = []
    for label, artifact in evaluations(artifacts):
        path = artifact.path / "answers.parquet"
        if path.exists():
            asked.append((label, artifact))
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
    graded = verdict_block(artifacts)
    labels = [label for label, _ in asked]
    lead = "Each policy's greedy answers to held-out questions."
    if len(labels) > 1:
        lead += f" From {labels[-2]} to {labels[-1]}, {len(gained)} were gained and {len(lost)} lost. Some of both come first."
    note = f"{len(chosen)} of {count(len(by_question))} questions."
    shown = Groups("Questions and answers", [_group(answers) for answers in chosen], note, source=_source(asked))
    return Section("answers", "Answers", lead, [shown, *([graded] if graded else [])])


def _greedy(path: Path) -> list[tuple[str, str, str]]:
    """Return greedy answers in the first format. Evaluations of earlier versions have no formats."""
    filters = [("kind", "==", "greedy")]
    if format := _first_format(path):
        filters.append(("format", "==", format))
    return filters


def _first_format(path: Path) -> str | None:
    if "format" not in pq.read_schema(path).names:
        return None
    with pq.ParquetFile(path) as file:
        first = next(file.iter_batches(1, columns=["format"]), None)
    return first["format"][0].as_py() if first else None


def _source(asked: Sequence[tuple[str, ReportArtifact]]) -> Source:
    """Return every question with its change between the last two policies, and all answers."""
    after, before = literal(asked[-1][1].key), literal(asked[-2 if len(asked) > 1 else -1][1].key)
    formats = list(dict.fromkeys(filter(None, (_first_format(artifact.path / "answers.parquet") for _, artifact in asked))))
    among = " and ".join(["kind = 'greedy'", *([f"coalesce(format, {literal(formats[0])}) in {strings(formats)}"] if formats else [])])
    query = (
        f"select sum(correct::int * ((artifact = {after})::int - (artifact = {before})::int)) as change, problem_id, question, gold,\n"
        "list(struct_pack(policy := name, correct := correct, finished := finished, text := text)) as answers\n"
        f"from {names_table(asked)} join answers on key = artifact where {among}\n"
        "group by problem_id, question, gold order by change desc, problem_id"
    )
    return Source.of((artifact for _, artifact in asked), query)


def _group(answers: Answers) -> Group:
    right = sum(row["correct"] for _, row in answers)
    samples = [
        Sample(steps=split_steps(row["text"]), correct=row["correct"], finished=row["finished"], label=label) for label, row in answers
    ]
    return Group(shortened(answers[0][1]["question"]), answers[0][1]["gold"], f"{right} of {len(answers)} correct", samples)
