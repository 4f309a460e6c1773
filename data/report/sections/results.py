"""Section "accuracy": scores of each policy on held-out questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count
from mathquarry.data.report.page.charts import Line, grouped_bars, lines
from mathquarry.data.report.page.scores import AT_K, LENIENT, Scores, read_lenient_scores, read_score, read_scores
from mathquarry.data.report.page.source import Source, summary_source
from mathquarry.data.report.sections.changes import change_table, policy_changes
from mathquarry.data.report.sections.policies import evaluations, policy_label

Named = list[tuple[str, Scores]]


def stage_scores(artifacts: Sequence[ReportArtifact]) -> Named:
    """Return (label, scores) of every evaluated policy, in the order of training."""
    return [(label, read_scores(artifact.summary)) for label, artifact in evaluations(artifacts)]


def accuracy_source(artifacts: Sequence[ReportArtifact]) -> Source:
    """Return the source of all scores of the first format with standard errors, with the strict and the lenient reading."""
    named = evaluations(artifacts)
    summaries = [artifact.summary for _, artifact in named]
    scored = {name for summary in summaries for name in summary if AT_K.fullmatch(name.removeprefix(LENIENT))}
    greedy = ["greedy", *(name for name in (f"{LENIENT}greedy",) if any(name in summary for summary in summaries))]
    metrics = [name for score in (*greedy, *sorted(scored)) for name in (score, f"{score}_se")]
    return summary_source(named, ["questions", *metrics])


def accuracy_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show table, bars with error bars, changes, and Pass@K and Maj@K over K if more than two K were scored."""
    named = stage_scores(artifacts)
    if not named:
        return None
    source = accuracy_source(artifacts)
    lenient = {label: read_lenient_scores(artifact.summary) for label, artifact in evaluations(artifacts)}
    blocks: list[Block] = [
        _table(named, lenient, source),
        Chart("Accuracy by stage", _bars(named), "Error bars: one standard error.", wide=True, source=source),
    ]
    if changed := change_table(policy_changes(artifacts)):
        blocks.insert(1, changed)
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
        "Held-out questions. Strict reading: only a box is an answer. Lenient reading: also text after "
        '"the answer is" or at the end. All other sections and charts use the strict reading. Pass@K: at least one of K samples is '
        "correct; Maj@K: the most frequent of K answers is correct. ± is one standard error over questions.",
        blocks,
    )


def _table(named: Named, lenient: Mapping[str, Scores | None], source: Source) -> Table:
    """Return a table with a row per policy and reading, the strict reading first."""
    metrics = list(dict.fromkeys(name for _, scores in named for name in scores.columns()))
    rows = []
    for label, scores in named:
        for reading, read in (("strict", scores), ("lenient", lenient[label])):
            if read:
                columns = read.columns()
                rows.append([label, reading, count(read.questions), *(str(columns.get(name, "–")) for name in metrics)])
    headers = ["Policy", "Answers read", "Questions", *metrics]
    return Table(headers, rows, numeric=frozenset(range(2, len(headers))), title="Scores of each policy", source=source)


def _benchmarks(artifacts: Sequence[ReportArtifact]) -> Table | None:
    """Return the scores of lm-evaluation-harness, one column per metric."""
    found = of_stage(artifacts, "harness")
    if not found:
        return None
    metrics = dict.fromkeys(name for artifact in found for name in artifact.summary)
    names = [name for name in metrics if not name.endswith((" questions", "_se"))]
    rows = [
        [
            policy_label(artifact, "harness"),
            *(str(read_score(artifact.summary, name)) if name in artifact.summary else "–" for name in names),
        ]
        for artifact in found
    ]
    headers = ["Policy", *names]
    source = summary_source([(policy_label(artifact, "harness"), artifact) for artifact in found], metrics)
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
