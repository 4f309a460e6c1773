"""Section "comparison": training methods side by side, as in the paper's Figures 5 and 7, and which of its orderings hold."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage, series
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count
from mathquarry.data.report.page.charts import Line, grouped_bars, lines
from mathquarry.data.report.page.noise import CLEAR
from mathquarry.data.report.page.scores import AT_K, Scores, read_scores
from mathquarry.data.report.page.source import Named, Source, names_table, strings

_NAME = re.compile(r"(?:grpo|evaluate)-([a-z][a-z+-]*)-(\d+)")

LABELS = {
    "sft": "SFT",
    "rft": "RFT",
    "online-rft": "Online RFT",
    "dpo": "DPO",
    "ppo": "PPO",
    "grpo+os": "GRPO+OS",
    "grpo+ps": "GRPO+PS",
}
# A method has the same colour in every chart.
_COLOURS = dict(zip(("start", *LABELS), (8, 4, 2, 3, 5, 7, 6, 1), strict=True))
PAPER_ORDERINGS = (("online-rft", "rft"), ("grpo+os", "online-rft"), ("grpo+ps", "grpo+os"))
"""(better, worse) pairs in Figure 5."""


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and its standard error (0 for a single seed)."""

    mean: float
    error: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one value per seed."""
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        return cls(mean, math.sqrt(variance / len(values)), len(values))

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.error:.1f} %" if self.seeds > 1 else f"{100 * self.mean:.1f} %"


def method_of(artifact: ReportArtifact) -> str | None:
    """Return the method that an artifact of a comparison belongs to; `None` in other runs."""
    match = _NAME.fullmatch(artifact.name)
    return match[1] if match and match[1] in LABELS else None


def comparison_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show scores of every method over seeds, accuracy over steps (Figure 5), Pass@K and Maj@K over K (Figure 7)."""
    scores: dict[str, list[Scores]] = defaultdict(list)
    start, scored = None, []
    for artifact in of_stage(artifacts, "evaluate"):
        if method := method_of(artifact):
            scores[method].append(read_scores(artifact.summary))
            scored.append((_label(method), artifact))
        elif artifact.name == "evaluate-sft":
            start = read_scores(artifact.summary)
            scored.append((_label("start"), artifact))
    if not scores:
        return None
    named = ({"start": [start]} if start else {}) | dict(scores)
    source = _source(scored)
    blocks: list[Block] = [
        _table(named, source),
        _bars(named, source),
        *_figure_5(artifacts),
        *_figure_7(named, source),
        _orderings(scores, start, source),
    ]
    seeds = max(map(len, scores.values()))
    return Section(
        "comparison",
        "Training methods",
        f"Every method starts from the same fine-tuned policy and trains on the same number of completions. Means over {seeds}  "
        f"seed{'s' if seeds > 1 else ''}; ± and error bars are one standard error over seeds. RFT and Online RFT use the answer "
        "checker as reward, PPO and GRPO the learned reward model, as in the paper.",
        blocks,
    )


def _label(method: str) -> str:
    return LABELS.get(method, "Start (SFT)")


def _colour(method: str) -> str:
    return f"@c{_COLOURS[method]}"


def _columns(several: Sequence[Scores]) -> dict[str, Spread]:
    return {name: Spread.of([scores.columns()[name].value for scores in several]) for name in several[0].columns()}


def _source(scored: Named) -> Source:
    """Return the query for means and standard errors over the seeds of each method."""
    metrics = [name for _, artifact in scored for name in artifact.summary if name == "greedy" or AT_K.fullmatch(name)]
    query = (
        "select name as method, f.key as score, count(*) as seeds, avg(f.value::double) as mean,\n"
        "coalesce(stddev_samp(f.value::double) / sqrt(count(*)), 0) as error,\n"
        "any_value((summary->>(f.key || '_se'))::double) as error_of_one\n"
        f"from {names_table(scored)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(metrics)} group by all order by all"
    )
    return Source.of((artifact for _, artifact in scored), query)


def _table(named: dict[str, list[Scores]], source: Source) -> Table:
    metrics = list(_columns(next(iter(named.values()))))
    rows = [[_label(method), count(len(several)), *(str(_columns(several)[name]) for name in metrics)] for method, several in named.items()]
    return Table(["Method", "Seeds", *metrics], rows, frozenset(range(1, len(metrics) + 2)), source=source)


def _bars(named: dict[str, list[Scores]], source: Source) -> Chart:
    columns = {method: _columns(several) for method, several in named.items()}
    metrics = list(next(iter(columns.values())))
    bars = [(name, [columns[m][name].mean for m in named], [columns[m][name].error for m in named]) for name in metrics]
    spec = grouped_bars([_label(m) for m in named], bars)
    return Chart("Accuracy by method", spec, "Error bars: one standard error.", wide=True, source=source)


def _figure_5(artifacts: Sequence[ReportArtifact]) -> list[Block]:
    """Draw greedy accuracy on held-out questions over the steps, averaged over seeds."""
    curves: dict[str, list[dict[int, float]]] = defaultdict(list)
    trained = []
    for artifact in of_stage(artifacts, "grpo"):
        method = method_of(artifact)
        steps, values = series(artifact.metrics(), "test_accuracy")
        if method and values:
            curves[method].append(dict(zip(steps, values, strict=True)))
            trained.append((_label(method), artifact))
    drawn = []
    for method, runs in curves.items():
        shared = sorted(set.intersection(*(set(run) for run in runs)))
        drawn.append(Line(_label(method), shared, [Spread.of([run[step] for run in runs]).mean for step in shared], colour=_colour(method)))
    if not drawn:
        return []
    note = "Greedy answers to held-out questions, the paper's Figure 5 at this run's scale. Means over seeds."
    query = (
        "select names.name as method, step, avg(value) as accuracy, count(*) as seeds\n"
        f"from {names_table(trained)} join metrics using (key)\n"
        "where metrics.name = 'test_accuracy' group by all order by all"
    )
    source = Source.of((artifact for _, artifact in trained), query)
    return [Chart("Accuracy over steps", lines(drawn, "step", y_format=".0%", points=True), note, wide=True, source=source)]


def _figure_7(named: dict[str, list[Scores]], source: Source) -> list[Block]:
    blocks: list[Block] = []
    for title, kind in (("Pass@K", "passes"), ("Maj@K", "majorities")):
        curves = []
        for method, several in named.items():
            ks = list(getattr(several[0], kind))
            means = [Spread.of([getattr(s, kind)[k].value for s in several]).mean for k in ks]
            curves.append(Line(_label(method), ks, means, colour=_colour(method)))
        if all(len(curve.x) > 2 for curve in curves):
            note = "The paper's Figure 7: RL raises Maj@K, not Pass@K. Means over seeds."
            spec = lines(curves, "samples K", y_format=".0%", log_x=True, points=True)
            blocks.append(Chart(f"{title} over K", spec, note, source=source))
    return blocks


def _orderings(scores: dict[str, list[Scores]], start: Scores | None, source: Source) -> Table:
    rows = []
    for metric in ("Greedy", "Pass@1"):
        for better, worse in PAPER_ORDERINGS:
            if better in scores and worse in scores and metric in scores[better][0].columns():
                rows.append(
                    [
                        f"{_label(better)} above {_label(worse)}",
                        metric,
                        *_difference(_columns(scores[better])[metric], _columns(scores[worse])[metric]),
                    ]
                )
    for method, several in scores.items():
        columns = _columns(several)
        for name in columns:
            if start and (name.startswith("Maj") or (name.startswith("Pass") and name != "Pass@1")):
                value, error = start.columns()[name].value, start.columns()[name].error or 0.0
                claim = f"{name} of {_label(method)} {'above' if name.startswith('Maj') else 'as'} the start's"
                points, verdict = _difference(columns[name], Spread(value, error, 1))
                if name.startswith("Pass"):
                    verdict = "differs" if verdict != "within noise" else "holds"
                rows.append([claim, name, points, verdict])
    headers = ["The paper's ordering", "Score", "Difference in points", f"Here ({CLEAR:g} standard errors)"]
    return Table(headers, rows, frozenset({2}), source=source)


def _difference(better: Spread, worse: Spread) -> tuple[str, str]:
    points, error = 100 * (better.mean - worse.mean), 100 * math.hypot(better.error, worse.error)
    text = f"{points:+.1f} ± {error:.1f}"
    if error == 0:
        return text, "only one seed"
    if abs(points) < CLEAR * error:
        return text, "within noise"
    return text, "holds" if points > 0 else "does not hold"
