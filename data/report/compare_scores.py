"""Section "scores" of the page that puts runs side by side: every evaluation, and each run's differences from the first."""

from __future__ import annotations

from collections.abc import Sequence

from data.report.blocks import Block, Chart, Section, Table, count
from data.report.charts import grouped_bars
from data.report.comparison import CLEAR
from data.report.paired import Difference, Evaluation, Pair, differences, differences_source, evaluations_by_label, every_score
from data.report.run_differences import ComparedRun
from data.report.source import Source, summary_source


def scores_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Every evaluation, and each run's differences from the first."""
    found = [evaluations_by_label(run.artifacts) for run in runs]
    labels = list(dict.fromkeys(label for evaluations in found for label in evaluations))
    if not labels:
        return None
    evaluated = [(f"{run.letter} {label}", one) for run, evaluations in zip(runs, found, strict=True) for label, one in evaluations.items()]
    source = summary_source([(name, one.artifact) for name, one in evaluated], [name for _, one in evaluated for name in one.figures])
    blocks: list[Block] = [_scores(runs, found, labels, source), *_bars(runs, found, labels, source)]
    pairs = [pair for label in labels for pair in _pairs(runs, found, label)]
    if rows := [row for pair in pairs for row in _differences(pair)]:
        headers = ["Policy", "Runs", "Score", "Difference in points", "Over", f"Here ({CLEAR:g} standard errors)"]
        note = (
            "± is one standard error. Over questions: paired, on the questions that both answered (same id, text and gold answer). "
            "Independent: Maj@K, whose value for a question is not kept, and runs without common questions; that overstates the error "
            "where questions are the same. Of differences that are none, about one in twenty passes two standard errors by chance."
        )
        blocks.append(Table(headers, rows, frozenset({3}), "Differences", note=note, source=differences_source(pairs)))
    lead = "Held-out questions, answers checked with math-verify. ± and error bars are one standard error over questions."
    return Section("scores", "Scores", lead, blocks)


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
    """A chart a score, policies side by side."""
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
    """The first run's evaluation with each other one that is not the same."""
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
    text = f"{100 * apart.value:+.1f}"
    if apart.error is None:
        return [text, over, "error unknown"]
    clear = abs(apart.value) >= CLEAR * apart.error and apart.value
    return [f"{text} ± {100 * apart.error:.1f}", over, ("higher" if apart.value > 0 else "lower") if clear else "within noise"]
