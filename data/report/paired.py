"""Differences between two evaluations: question by question where both answered the same ones.

A question is the same when its id, its text and its gold answer are: generated problems of different seeds share ids.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from data.grade.estimates import pass_at_k
from data.report.artifact import ReportArtifact
from data.report.results import evaluations
from data.report.scores import Score, Scores, read_scores

Question = tuple[str, str, str]
"""Id, text and gold answer."""


@dataclass(frozen=True)
class Evaluation:
    """A policy's scores in one format of answers."""

    artifact: ReportArtifact
    format: str
    scores: Scores

    def by_question(self) -> dict[str, dict[Question, float]]:
        """Score by question for "Greedy" and each Pass@K, from the answers; nothing of an evaluation that kept none."""
        path = self.artifact.path / "answers.parquet"
        if not path.exists():
            return {}
        columns = ["problem_id", "question", "gold", "kind", "correct"]
        table = pq.read_table(path, columns=columns, filters=self._filters(path))
        greedy: dict[Question, float] = {}
        right: dict[Question, list[bool]] = defaultdict(list)
        for name, text, gold, kind, correct in zip(*(table[column].to_pylist() for column in columns), strict=True):
            if kind == "greedy":
                greedy[name, text, gold] = float(correct)
            else:
                right[name, text, gold].append(correct)
        found = {"Greedy": greedy}
        for k in self.scores.passes:
            found[f"Pass@{k}"] = {asked: pass_at_k(len(drawn), sum(drawn), k) for asked, drawn in right.items() if len(drawn) >= k}
        return found

    def _filters(self, path: Path) -> list[tuple[str, str, str]] | None:
        """Answers of earlier versions know no formats."""
        return [("format", "==", self.format)] if "format" in pq.read_schema(path).names else None


def evaluations_by_label(artifacts: Sequence[ReportArtifact]) -> dict[str, Evaluation]:
    """Every evaluation of a run: "SFT" for its first format of answers, "SFT, tool" for a further one."""
    found = {}
    for label, artifact in evaluations(artifacts):
        formats = artifact.config.get("evaluate", {}).get("formats") or ["cot"]
        found[label] = Evaluation(artifact, formats[0], read_scores(artifact.summary))
        for format in formats[1:]:
            own = {name.removeprefix(f"{format}_"): value for name, value in artifact.summary.items() if name.startswith(f"{format}_")}
            found[f"{label}, {format}"] = Evaluation(artifact, format, read_scores(own))
    return found


@dataclass(frozen=True)
class Difference:
    """One score minus another, a share of 1. `questions` is how many it is paired over, None where the two are taken as independent."""

    value: float
    error: float | None
    questions: int | None


def differences(one: Evaluation, other: Evaluation) -> dict[str, Difference]:
    """`other` minus `one` for every score that both have.

    Greedy and Pass@K are paired over the questions that both answered. Maj@K, whose value for a question is not kept, and scores without
    common questions are differences of independent ones, which overstates the error where the questions are the same.
    """
    ours, theirs = one.by_question(), other.by_question()
    columns, others = every_score(one.scores), every_score(other.scores)
    found = {}
    for name in columns:
        if name not in others:
            continue
        shared = [asked for asked in ours.get(name, {}) if asked in theirs.get(name, {})]
        if len(shared) > 1:
            found[name] = paired(ours[name], theirs[name], shared)
        else:
            found[name] = Difference(others[name].value - columns[name].value, _independent(columns[name], others[name]), None)
    return found


def every_score(scores: Scores) -> dict[str, Score]:
    """Greedy, and Pass@K and Maj@K of every K."""
    found = {"Greedy": scores.greedy} | {f"Pass@{k}": score for k, score in scores.passes.items()}
    return found | {f"Maj@{k}": score for k, score in scores.majorities.items()}


def paired(ours: Mapping[Question, float], theirs: Mapping[Question, float], shared: Sequence[Question]) -> Difference:
    """Mean of `theirs` minus `ours` over the `shared` questions, at least two, and its standard error."""
    apart = [theirs[asked] - ours[asked] for asked in shared]
    mean = sum(apart) / len(apart)
    variance = sum((value - mean) ** 2 for value in apart) / (len(apart) - 1)
    return Difference(mean, math.sqrt(variance / len(apart)), len(apart))


def _independent(one: Score, other: Score) -> float | None:
    return None if one.error is None or other.error is None else math.hypot(one.error, other.error)
