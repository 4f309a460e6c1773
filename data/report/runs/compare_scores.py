"""Section "scores" of a report on several runs: every evaluation, and each run's differences from the first."""

from __future__ import annotations

from collections.abc import Sequence

from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count
from mathquarry.data.report.page.charts import grouped_bars
from mathquarry.data.report.page.noise import CLEAR
from mathquarry.data.report.page.opening import Link, Sentence
from mathquarry.data.report.page.source import Source, summary_source
from mathquarry.data.report.runs.run_differences import ComparedRun
from mathquarry.data.report.sections.paired import (
    Difference,
    Evaluation,
    Pair,
    differences,
    differences_source,
    evaluations_by_label,
    every_score,
)
from mathquarry.data.report.sections.policies import policy_in_prose


def scores_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Show every evaluation, and each run's differences from the first."""
    found = [evaluations_by_label(run.artifacts) for run in runs]
    labels = list(dict.fromkeys(label for evaluations in found for label in evaluations))
    if not labels:
        return None
    evaluated = [(f"{run.letter} {label}", one) for run, evaluations in zip(runs, found, strict=True) for label, one in evaluations.items()]
    source = summary_source([(name, one.artifact) for name, one in evaluated], [name for _, one in evaluated for name in one.metrics])
    blocks: list[Block] = [_scores(runs, found, labels, source), *_bars(runs, found, labels, source)]
    pairs = [pair for label in labels for pair in _pairs(runs, found, label)]
    if rows := [row for pair in pairs for row in _differences(pair)]:
        headers = ["Policy", "Runs", "Score", "Difference in points", "Over", f"Here ({CLEAR:g} standard errors)"]
        note = (
            "± is one standard error. Paired over the questions that both runs answered (same id, text and gold answer). Independent: "
            "Maj@K, which is not stored per question, and runs without common questions; this overestimates the error for shared ones. "
            "If there is no real difference, about one in twenty exceeds two standard errors by chance."
        )
        blocks.append(Table(headers, rows, frozenset({3}), "Differences", note=note, source=differences_source(pairs)))
    lead = "Held-out questions, graded with the strict reading. ± and error bars are one standard error over questions."
    return Section("scores", "Scores", lead, blocks)


def scores_opening(runs: Sequence[ComparedRun]) -> list[Sentence]:
    """Compare the greedy accuracy of each run's last policy with the first run's policy of the same name."""
    found = [evaluations_by_label(run.artifacts) for run in runs]
    told = []
    for run, own in zip(runs[1:], found[1:], strict=True):
        shared = [label for label in found[0] if label in own and ", " not in label]
        if not shared:
            continue
        label, subject = shared[-1], f"{run.letter} against {runs[0].letter}, {policy_in_prose(shared[-1])}"
        if own[label].artifact.key == found[0][label].artifact.key:
            told.append(Sentence(f"{subject}: the same artifact.", (Link("shared", "Keys"),)))
            continue
        apart = differences(found[0][label], own[label])["Greedy"]
        verdict = _verdict(apart)[-1]
        said = {"higher": "greedy accuracy is higher by", "lower": "greedy accuracy is lower by"}.get(verdict)
        text = f"{said} {apart.points[1:]} points" if said else f"greedy accuracy differs by {apart.points} points, {verdict}"
        if apart.gained is not None:
            alone = f"{count(apart.gained)} correct only in {run.letter}, {count(apart.lost)} only in {runs[0].letter}"
            text += f" ({count(apart.questions)} questions; {alone})"
        told.append(Sentence(f"{subject}: {text}.", (Link("scores", "Differences"),)))
    return told


def _scores(runs: Sequence[ComparedRun], found: Sequence[dict[str, Evaluation]], labels: Sequence[str], source: Source) -> Table:
    metrics = list(dict.fromkeys(name for evaluations in found for one in evaluations.values() for name in one.scores.columns()))
    rows = []
    for label in labels:
        by_key: dict[str, list[str]] = {}
        for run, evaluations in zip(runs, found, strict=True):
            if label in evaluations:
                by_key.setdefault(evaluations[label].artifact.key, []).append(run.letter)
        shown = {evaluations[label].artifact.key: evaluations[label].scores for evaluations in found if label in evaluations}
        for key, letters in by_key.items():
            columns = shown[key].columns()
            rows.append([label, ", ".join(letters), count(shown[key].questions), *(str(columns.get(name, "–")) for name in metrics)])
    note = "Runs in one row share the artifact."
    return Table(["Policy", "Runs", "Questions", *metrics], rows, frozenset(range(2, len(metrics) + 3)), note=note, source=source)


def _bars(runs: Sequence[ComparedRun], found: Sequence[dict[str, Evaluation]], labels: Sequence[str], source: Source) -> list[Block]:
    """Draw one chart per score, with policies side by side."""
    metrics = list(dict.fromkeys(name for evaluations in found for one in evaluations.values() for name in one.scores.columns()))
    blocks: list[Block] = []
    for metric in metrics:
        bars = []
        for run, evaluations in zip(runs, found, strict=True):
            scores = [evaluations[label].scores.columns().get(metric) if label in evaluations else None for label in labels]
            bars.append(
                (run.letter, [score.value if score else None for score in scores], [score.error if score else None for score in scores])
            )
        blocks.append(Chart(metric, grouped_bars(labels, bars), "Error bars: one standard error.", source=source))
    return blocks


def _pairs(runs: Sequence[ComparedRun], found: Sequence[dict[str, Evaluation]], label: str) -> list[Pair]:
    """Pair the first run's evaluation with each different one."""
    first = found[0].get(label)
    return [
        Pair(label, f"{run.letter}−{runs[0].letter}", first, other)
        for run, evaluations in zip(runs[1:], found[1:], strict=True)
        if first and (other := evaluations.get(label)) and other.artifact.key != first.artifact.key
    ]


def _differences(pair: Pair) -> list[list[str]]:
    apart = differences(pair.one, pair.other)
    shown = {**pair.one.scores.columns(), **pair.other.scores.columns()}
    return [
        [pair.label, pair.runs, name, *_verdict(apart[name])] for name in every_score(pair.one.scores) if name in shown and name in apart
    ]


def _verdict(apart: Difference) -> list[str]:
    over = "independent" if apart.questions is None else f"{count(apart.questions)} questions"
    if apart.error is None:
        return [apart.points, over, "error unknown"]
    return [apart.points, over, ("higher" if apart.value > 0 else "lower") if apart.clear else "within noise"]
