"""Section "accuracy": what each stage scores on held-out questions."""

from __future__ import annotations

from collections.abc import Sequence

from data.report.artifact import ReportArtifact, of_stage
from data.report.blocks import Block, Chart, Section, Table, count
from data.report.charts import Line, grouped_bars, lines
from data.report.scores import AT_K, Scores, read_score, read_scores
from data.report.source import Source, summary_source

NAMES = {"base": "Base", "sft": "SFT"}

Named = list[tuple[str, Scores]]


def evaluations(artifacts: Sequence[ReportArtifact]) -> list[tuple[str, ReportArtifact]]:
    """(label, artifact) of every evaluated policy, in the order of training: Base, SFT, RL 1, RL 2, ..."""
    found = [(_label(artifact), artifact) for artifact in of_stage(artifacts, "evaluate")]
    return sorted(found, key=lambda item: (item[0] != "Base", item[0] != "SFT", item[1].iteration or 0))


def stage_scores(artifacts: Sequence[ReportArtifact]) -> Named:
    """(label, scores) of every evaluated policy, in the order of training."""
    return [(label, read_scores(artifact.summary)) for label, artifact in evaluations(artifacts)]


def accuracy_source(artifacts: Sequence[ReportArtifact]) -> Source:
    """All scores of the first format with their standard errors."""
    named = evaluations(artifacts)
    scored = {name for _, artifact in named for name in artifact.summary if AT_K.fullmatch(name)}
    figures = [name for score in ("greedy", *sorted(scored)) for name in (score, f"{score}_se")]
    return summary_source(named, ["questions", *figures])


def accuracy_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Table, bars with error bars, and Pass@K and Maj@K over K where more than two K were scored."""
    named = stage_scores(artifacts)
    if not named:
        return None
    source = accuracy_source(artifacts)
    blocks: list[Block] = [
        _table(named, source),
        Chart("Accuracy by stage", _bars(named), "Error bars: one standard error.", wide=True, source=source),
    ]
    for title, kind in (("Pass@K", "passes"), ("Maj@K", "majorities")):
        curves = [
            Line(label, list(getattr(scores, kind)), [score.value for score in getattr(scores, kind).values()]) for label, scores in named
        ]
        if all(len(curve.x) > 2 for curve in curves):
            spec = lines(curves, "samples K", y_format=".0%", log_x=True, points=True)
            blocks.append(Chart(f"{title} over K", spec, source=source))
    if benchmarks := _benchmarks(artifacts):
        blocks.append(benchmarks)
    return Section(
        "accuracy",
        "Accuracy",
        "Held-out questions, answers checked by kind. Pass@K: at least one of K samples is right; Maj@K: the most frequent of K "
        "answers is. ± is one standard error over questions; the change takes the two scores as independent, which overstates its error.",
        blocks,
    )


def _label(artifact: ReportArtifact, stage: str = "evaluate") -> str:
    name = artifact.name.removeprefix(f"{stage}-")
    return NAMES.get(name) or (f"RL {name.removeprefix('rl-')}" if name.startswith("rl-") else name)


def _table(named: Named, source: Source) -> Table:
    metrics = list(dict.fromkeys(name for _, scores in named for name in scores.columns()))
    rows, before = [], None
    for label, scores in named:
        columns = scores.columns()
        change = "–" if before is None else scores.greedy.minus(before.greedy)
        rows.append([label, count(scores.questions), *(str(columns.get(name, "–")) for name in metrics), change])
        before = scores
    headers = ["Policy", "Questions", *metrics, "Greedy, change in points"]
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))), source=source)


def _benchmarks(artifacts: Sequence[ReportArtifact]) -> Table | None:
    """What lm-evaluation-harness found, a column a figure."""
    found = of_stage(artifacts, "harness")
    if not found:
        return None
    figures = dict.fromkeys(name for artifact in found for name in artifact.summary)
    names = [name for name in figures if not name.endswith((" questions", "_se"))]
    rows = [
        [
            _label(artifact, "harness"),
            *(str(read_score(artifact.summary, name)) if name in artifact.summary else "–" for name in names),
        ]
        for artifact in found
    ]
    headers = ["Policy", *names]
    source = summary_source([(_label(artifact, "harness"), artifact) for artifact in found], figures)
    title = "Benchmarks of lm-evaluation-harness"
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))), title=title, source=source)


def _bars(named: Named) -> dict:
    groups = list(dict.fromkeys(name for _, scores in named for name in scores.columns()))
    bars = []
    for label, scores in named:
        columns = scores.columns()
        found = [columns.get(name) for name in groups]
        bars.append((label, [score.value if score else None for score in found], [score.error if score else None for score in found]))
    return grouped_bars(groups, bars)
