"""Differences between two evaluations, paired by question if both answered the same ones.

Two questions are the same if their ids, texts and gold answers are equal: generated problems of different seeds share ids.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow.parquet as pq

from mathquarry.data.grade.estimates import pass_at_k
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.noise import CLEAR, beyond, flips_agree
from mathquarry.data.report.page.scores import Score, Scores, read_scores
from mathquarry.data.report.page.source import Source, keys, literal
from mathquarry.data.report.sections.policies import evaluations

Question = tuple[str, str, str]
"""Id, text and gold answer."""


@dataclass(frozen=True)
class Evaluation:
    """A policy's scores in one format of answers."""

    artifact: ReportArtifact
    format: str
    scores: Scores
    prefix: str = ""
    """Prefix of this format's metrics in the summary."""

    @property
    def metrics(self) -> list[str]:
        """Return names of the scores and their standard errors in the summary."""
        found = [f"{self.prefix}{name.lower()}" for name in every_score(self.scores)]
        return [f"{self.prefix}questions", *found, *(f"{name}_se" for name in found)]

    @property
    def place(self) -> tuple[str, str, str]:
        """Return key, format, and prefix of the metrics."""
        return self.artifact.key, self.format, self.prefix

    def by_question(self) -> dict[str, dict[Question, float]]:
        """Return the score by question for "Greedy" and each Pass@K, from the answers; empty if none are stored."""
        path = self.artifact.path / "answers.parquet"
        if not path.exists():
            return {}
        file = pq.ParquetFile(path)  # `read_table` and filters import pandas, which takes half a second
        columns = ["problem_id", "question", "gold", "kind", "correct"]
        if "format" in file.schema_arrow.names:  # answers of earlier versions know none
            columns.append("format")
        table = file.read(columns=columns)
        greedy: dict[Question, float] = {}
        right: dict[Question, list[bool]] = defaultdict(list)
        for name, text, gold, kind, correct, *format in zip(*(table[column].to_pylist() for column in columns), strict=True):
            if format not in ([], [self.format]):
                continue
            if kind == "greedy":
                greedy[name, text, gold] = float(correct)
            else:
                right[name, text, gold].append(correct)
        found = {"Greedy": greedy}
        for k in self.scores.passes:
            found[f"Pass@{k}"] = {asked: pass_at_k(len(drawn), sum(drawn), k) for asked, drawn in right.items() if len(drawn) >= k}
        return found


def evaluations_by_label(artifacts: Sequence[ReportArtifact]) -> dict[str, Evaluation]:
    """Return every evaluation of a run: "SFT" for its first format of answers, "SFT, tool" for another one."""
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
    """One score minus another, as a share of 1. `questions` is the number of paired questions; None if they are treated as independent."""

    value: float
    error: float | None
    questions: int | None
    gained: int | None = None
    """Questions that only the second answered correctly; None for scores of several answers, and if nothing is paired."""
    lost: int | None = None
    """Questions that only the first answered correctly."""

    @property
    def clear(self) -> bool:
        """Whether it is more than noise (`noise.py`)."""
        if self.gained is None or self.lost is None:
            return beyond(self.value, self.error)
        return abs(self.value) >= CLEAR * (self.error or 0.0) and flips_agree(self.gained, self.lost)

    @property
    def points(self) -> str:
        """Format in points, with sign and standard error."""
        return f"{100 * self.value:+.1f}" + ("" if self.error is None else f" ± {100 * self.error:.1f}")


def differences(one: Evaluation, other: Evaluation) -> dict[str, Difference]:
    """Return `other` minus `one` for every score that both have.

    Greedy and Pass@K are paired over the questions that both answered. Maj@K, which is not stored per question, and scores without common
    questions are treated as independent, which overestimates the error if questions are shared.
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
            if name == "Greedy":
                found[name] = replace(found[name], **_flips(ours[name], theirs[name], shared))
        else:
            found[name] = Difference(others[name].value - columns[name].value, _independent(columns[name], others[name]), None)
    return found


def every_score(scores: Scores) -> dict[str, Score]:
    """Return greedy, and Pass@K and Maj@K of every K."""
    found = {"Greedy": scores.greedy} | {f"Pass@{k}": score for k, score in scores.passes.items()}
    return found | {f"Maj@{k}": score for k, score in scores.majorities.items()}


def paired(ours: Mapping[Question, float], theirs: Mapping[Question, float], shared: Sequence[Question]) -> Difference:
    """Return the mean of `theirs` minus `ours` over the `shared` questions (at least two), and its standard error."""
    apart = [theirs[asked] - ours[asked] for asked in shared]
    mean = sum(apart) / len(apart)
    variance = sum((value - mean) ** 2 for value in apart) / (len(apart) - 1)
    return Difference(mean, math.sqrt(variance / len(apart)), len(apart))


def _flips(ours: Mapping[Question, float], theirs: Mapping[Question, float], shared: Sequence[Question]) -> dict[str, int]:
    return {
        "gained": sum(theirs[asked] > ours[asked] for asked in shared),
        "lost": sum(theirs[asked] < ours[asked] for asked in shared),
    }


@dataclass(frozen=True)
class Pair:
    """Two runs' evaluations of the policy `label`. `runs` says which is subtracted from which."""

    label: str
    runs: str
    one: Evaluation
    other: Evaluation


def differences_source(pairs: Sequence[Pair]) -> Source:
    """Return the query for `differences` of each pair: paired if the answers allow it (`questions` is not null), else independent."""
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
        "stddev_samp(b.value - a.value) / sqrt(count(*)) as error, count(*) as questions,\n"
        "case when any_value(a.score) = 'greedy' then count(*) filter (b.value > a.value) end as gained,\n"
        "case when any_value(a.score) = 'greedy' then count(*) filter (b.value < a.value) end as lost\n"
        "from pairs join by_question as a on a.artifact = one and coalesce(a.format, one_format) = one_format\n"
        "join by_question as b on b.artifact = other and coalesce(b.format, other_format) = other_format\n"
        "and (a.score, a.problem_id, a.question, a.gold) = (b.score, b.problem_id, b.question, b.gold)\n"
        "group by all having count(*) > 1),\n"
        "independent as (select policy, runs, score,\n"
        "(b.summary->>(other_prefix || score))::double - (a.summary->>(one_prefix || score))::double as difference,\n"
        "sqrt((b.summary->>(other_prefix || score || '_se'))::double ** 2 + (a.summary->>(one_prefix || score || '_se'))::double ** 2)\n"
        "as error from pairs join artifacts as a on a.key = one join artifacts as b on b.key = other, scores)\n"
        "select policy, runs, score, coalesce(p.difference, i.difference) as difference, coalesce(p.error, i.error) as error, questions,\n"
        "gained, lost\n"
        "from independent as i left join paired as p using (policy, runs, score) where i.difference is not null"
    )
    return Source.of(artifacts, query)


def _by_question(answered: Sequence[ReportArtifact]) -> str:
    """Return a table with the score of each question. Pass@K is 1 - C(n - c, k) / C(n, k), a product of k fractions."""
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
