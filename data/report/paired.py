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
from data.report.source import Source, keys, literal

Question = tuple[str, str, str]
"""Id, text and gold answer."""


@dataclass(frozen=True)
class Evaluation:
    """A policy's scores in one format of answers."""

    artifact: ReportArtifact
    format: str
    scores: Scores
    prefix: str = ""
    """Of this format's figures in the summary."""

    @property
    def figures(self) -> list[str]:
        """Names of the scores and their standard errors in the summary."""
        found = [f"{self.prefix}{name.lower()}" for name in every_score(self.scores)]
        return [f"{self.prefix}questions", *found, *(f"{name}_se" for name in found)]

    @property
    def place(self) -> tuple[str, str, str]:
        """Key, format, and prefix of the figures."""
        return self.artifact.key, self.format, self.prefix

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
            found[f"{label}, {format}"] = Evaluation(artifact, format, read_scores(own), f"{format}_")
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


@dataclass(frozen=True)
class Pair:
    """Two runs' evaluations of the policy that goes by `label` in both; `runs` says which is taken from which."""

    label: str
    runs: str
    one: Evaluation
    other: Evaluation


def differences_source(pairs: Sequence[Pair]) -> Source:
    """What `differences` gives for each pair: paired where the answers allow it (`questions` is not null), independent otherwise."""
    artifacts = [one.artifact for pair in pairs for one in (pair.one, pair.other)]
    answered = [artifact for artifact in artifacts if (artifact.path / "answers.parquet").exists()]
    rows = ",\n".join(
        f"({', '.join(map(literal, (pair.label, pair.runs, *(text for one in (pair.one, pair.other) for text in one.place))))})"
        for pair in pairs
    )
    scores = dict.fromkeys(name.lower() for pair in pairs for name in every_score(pair.one.scores))
    query = (
        "with pairs(policy, runs, one, one_format, one_prefix, other, other_format, other_prefix) as (values\n"
        f"{rows}),\n"
        f"scores as (select unnest([{', '.join(map(literal, scores))}]) as score, try_cast(score[6:] as integer) as k),\n"
        f"{_by_question(answered)}"
        "paired as (select policy, runs, a.score, avg(b.value - a.value) as difference,\n"
        "stddev_samp(b.value - a.value) / sqrt(count(*)) as error, count(*) as questions\n"
        "from pairs join by_question as a on a.artifact = one and coalesce(a.format, one_format) = one_format\n"
        "join by_question as b on b.artifact = other and coalesce(b.format, other_format) = other_format\n"
        "and (a.score, a.problem_id, a.question, a.gold) = (b.score, b.problem_id, b.question, b.gold)\n"
        "group by all having count(*) > 1),\n"
        "independent as (select policy, runs, score,\n"
        "(b.summary->>(other_prefix || score))::double - (a.summary->>(one_prefix || score))::double as difference,\n"
        "sqrt((b.summary->>(other_prefix || score || '_se'))::double ** 2 + (a.summary->>(one_prefix || score || '_se'))::double ** 2)\n"
        "as error from pairs join artifacts as a on a.key = one join artifacts as b on b.key = other, scores)\n"
        "select policy, runs, score, coalesce(p.difference, i.difference) as difference, coalesce(p.error, i.error) as error, questions\n"
        "from independent as i left join paired as p using (policy, runs, score) where i.difference is not null"
    )
    return Source.of(artifacts, query)


def _by_question(answered: Sequence[ReportArtifact]) -> str:
    """A table with the score of each question. Pass@K is 1 - C(n - c, k) / C(n, k), a product of k fractions."""
    if not answered:
        return (
            "by_question as (select null::varchar as artifact, null::varchar as format, null::varchar as problem_id,\n"
            "null::varchar as question, null::varchar as gold, null::varchar as score, null::double as value limit 0),\n"
        )
    formats = any("format" in pq.read_schema(artifact.path / "answers.parquet").names for artifact in answered)
    return (
        f"drawn as (select artifact, {'format' if formats else 'null::varchar as format'}, problem_id, question, gold,\n"
        "kind = 'greedy' as greedy, count(*) as n, sum(correct::integer) as c\n"
        f"from answers where artifact in {keys(answered)} group by all),\n"
        "by_question as (select artifact, format, problem_id, question, gold, score,\n"
        "case when greedy then c else 1 - list_product([(n - c - i) / (n - i) for i in range(k)]) end as value\n"
        "from drawn join scores on greedy and score = 'greedy' or not greedy and starts_with(score, 'pass') and n >= k),\n"
    )


def _independent(one: Score, other: Score) -> float | None:
    return None if one.error is None or other.error is None else math.hypot(one.error, other.error)
