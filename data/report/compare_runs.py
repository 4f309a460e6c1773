"""A page that puts runs side by side: what differs in their configs, scores and curves, and which artifacts they share.

Runs go by the letters A, B, ... in the order in which they are given; differences are against A.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import MathQuarryError
from data.report.artifact import ReportArtifact, joined, of_stage, series
from data.report.blocks import Block, Chart, Section, Table, count, figure, number, short
from data.report.build import present, write_page
from data.report.charts import COLOURS, Line, grouped_bars, lines
from data.report.comparison import CLEAR, method_of
from data.report.cost import ENERGY, HEADERS, NOTES, cost_cells, cost_of, total
from data.report.lineage import KEY_DIGITS, draw_artifacts
from data.report.paired import Difference, Evaluation, differences, evaluations_by_label, every_score
from data.report.provenance import code_version
from data.report.run_differences import MISSING, config_differences, why_apart

MOST_RUNS = len(COLOURS)

CURVES = (
    ("reward", "Reward model's score", ".2f"),
    ("accuracy", "Right among sampled training outputs", ".2f"),
    ("test_accuracy", "Held-out accuracy, greedy", ".0%"),
    ("groups_mixed", "Groups with right and wrong outputs", ".0%"),
    ("kl", "KL to the reference", ""),
    ("entropy", "Entropy", ""),
    ("output_tokens", "Output length in tokens", ""),
    ("reward_auc", "Reward model's AUC on the rollouts", ".2f"),
)
"""Metrics of `grpo`, with a title and the axis' format."""

FIGURES = (
    ("mine", "pages", "Pages in the corpus"),
    ("mine", "tokens", "Tokens in the corpus, estimated"),
    ("mine", "rounds", "Rounds of mining"),
    ("mine", "math_precision", "Mathematical among collected pages"),
    ("mine", "math_recall", "Collected among mathematical pages"),
    ("curate", "examples", "Fine-tuning examples"),
    ("pretrain", "tokens", "Tokens pretrained on"),
    ("pretrain", "loss", "Last pretraining loss"),
    ("sft", "loss", "Last fine-tuning loss"),
)
"""Figures of a stage's last artifact: stage, name in the summary, words."""
REWARD_FIGURES = (
    ("before_auc", "AUC before"),
    ("auc", "AUC"),
    ("auc_within_question", "AUC within a question"),
    ("step_auc", "AUC of steps"),
)


@dataclass(frozen=True)
class ComparedRun:
    """A run with its letter."""

    letter: str
    record: dict[str, Any]
    artifacts: list[ReportArtifact]

    @property
    def by_name(self) -> dict[str, ReportArtifact]:
        """Its artifacts by their name in the run."""
        return {artifact.name: artifact for artifact in self.artifacts}


def build_comparison(runs: Sequence[tuple[dict[str, Any], list[ReportArtifact]]], out: Path) -> dict[str, int | float | str]:
    """Write `out / "report.html"` about (record, artifacts) of at least two runs. Returns its size, sections and charts.

    Raises `MathQuarryError` for more runs than there are colours, and for a file of an artifact that cannot be read.
    """
    if len(runs) > MOST_RUNS:
        raise MathQuarryError(f"{len(runs)} runs do not fit side by side; name at most {MOST_RUNS}.")
    compared = [ComparedRun(letter, record, artifacts) for letter, (record, artifacts) in zip(string.ascii_uppercase, runs, strict=False)]
    recipes = dict.fromkeys(run.record["recipe"] for run in compared)
    heading = {"recipe": f"{', '.join(recipes)}: {len(compared)} runs side by side", "id": "", "started": ""}
    return write_page(heading, [], comparison_sections(compared), out)


def comparison_sections(runs: Sequence[ComparedRun]) -> list[Section]:
    """The sections of the page, without those that no run has anything for."""
    return present(
        [runs_section(runs), scores_section(runs), curves_section(runs), figures_section(runs), shared_section(runs), cost_section(runs)]
    )


def runs_section(runs: Sequence[ComparedRun]) -> Section:
    """Which runs these are, and the fields of their configs that differ."""
    rows = [
        [
            run.letter,
            str(run.record["recipe"]),
            str(run.record["id"]),
            str(run.record.get("started") or "–")[:16].replace("T", " "),
            str(run.record.get("status", "–")),
            count(len(run.artifacts)),
            ", ".join(dict.fromkeys(filter(None, map(code_version, run.artifacts)))) or "–",
        ]
        for run in runs
    ]
    listed = Table(["Run", "Recipe", "Id", "Started (UTC)", "Status", "Artifacts", "Code"], rows, frozenset({5}), mono=frozenset({2, 3}))
    fields = config_differences([run.record.get("config", {}) for run in runs])
    apart = [[name, *values] for name, values in fields]
    blocks: list[Block] = [listed]
    if apart:
        absent = f"{MISSING}: not in that recipe." if any(MISSING in row for row in apart) else ""
        blocks.append(Table(["Field", *(run.letter for run in runs)], apart, title="Fields that differ", note=absent))
    lead = f"{count(len(apart))} fields of their resolved recipes differ." if apart else "Their resolved recipes are the same."
    return Section("runs", "Runs", lead, blocks)


def scores_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Every evaluation, and each run's differences from the first."""
    found = [evaluations_by_label(run.artifacts) for run in runs]
    labels = list(dict.fromkeys(label for evaluations in found for label in evaluations))
    if not labels:
        return None
    blocks: list[Block] = [_scores(runs, found, labels), *_bars(runs, found, labels)]
    if rows := [row for label in labels for row in _differences(runs, found, label)]:
        headers = ["Policy", "Runs", "Score", "Difference in points", "Over", f"Here ({CLEAR:g} standard errors)"]
        note = (
            "± is one standard error. Over questions: paired, on the questions that both answered (same id, text and gold answer). "
            "Independent: Maj@K, whose value for a question is not kept, and runs without common questions; that overstates the error "
            "where questions are the same. Of differences that are none, about one in twenty passes two standard errors by chance."
        )
        blocks.append(Table(headers, rows, frozenset({3}), "Differences", note=note))
    lead = "Held-out questions, answers checked with math-verify. ± and error bars are one standard error over questions."
    return Section("scores", "Scores", lead, blocks)


def _scores(runs: Sequence[ComparedRun], found: Sequence[dict[str, Evaluation]], labels: Sequence[str]) -> Table:
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
    return Table(["Policy", "Runs", "Questions", *metrics], rows, frozenset(range(2, len(metrics) + 3)), note=note)


def _bars(runs: Sequence[ComparedRun], found: Sequence[dict[str, Evaluation]], labels: Sequence[str]) -> list[Block]:
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
        blocks.append(Chart(metric, grouped_bars(labels, bars), "Error bars: one standard error."))
    return blocks


def _differences(runs: Sequence[ComparedRun], found: Sequence[dict[str, Evaluation]], label: str) -> list[list[str]]:
    first = found[0].get(label)
    rows = []
    for run, evaluations in zip(runs[1:], found[1:], strict=True):
        other = evaluations.get(label)
        if first is None or other is None or other.artifact.key == first.artifact.key:
            continue
        shown = [name for name in every_score(first.scores) if name in first.scores.columns() or name in other.scores.columns()]
        apart = differences(first, other)
        for name in shown:
            if name in apart:
                rows.append([label, f"{run.letter} − {runs[0].letter}", name, *_verdict(apart[name])])
    return rows


def _verdict(apart: Difference) -> list[str]:
    over = "independent" if apart.questions is None else f"{count(apart.questions)} questions"
    text = f"{100 * apart.value:+.1f}"
    if apart.error is None:
        return [text, over, "error unknown"]
    clear = abs(apart.value) >= CLEAR * apart.error and apart.value
    return [f"{text} ± {100 * apart.error:.1f}", over, ("higher" if apart.value > 0 else "lower") if clear else "within noise"]


def curves_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Losses and GRPO's curves of all runs in the same charts."""
    blocks: list[Block] = []
    for stage, title in (("pretrain", "Pretraining loss"), ("sft", "Fine-tuning loss")):
        blocks += _overlaid(runs, stage, "loss", title, "")
    for metric, title, y_format in CURVES:
        blocks += _overlaid(runs, "grpo", metric, title, y_format)
    if not blocks:
        return None
    lead = "Each run's own steps; iterations of GRPO one after another. Curves of an artifact that runs share lie on each other."
    return Section("curves", "Curves", lead, blocks)


def _overlaid(runs: Sequence[ComparedRun], stage: str, metric: str, title: str, y_format: str) -> list[Block]:
    drawn = []
    for colour, run in zip(COLOURS, runs, strict=False):
        # Methods and arms of an experiment are not one after another; their own pages compare them.
        parts = [artifact for artifact in of_stage(run.artifacts, stage) if artifact.name == stage or artifact.iteration]
        steps, values = series(joined([part for part in parts if method_of(part) is None])[0], metric)
        if values:
            drawn.append(Line(run.letter, steps, values, colour))
    return [Chart(title, lines(drawn, "step", y_format))] if drawn else []


def figures_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Sizes and losses, and how well the reward models tell right from wrong."""
    rows = []
    for stage, name, words in FIGURES:
        found = [of_stage(run.artifacts, stage) for run in runs]
        values = [number(artifacts[-1].summary, name) if artifacts else None for artifacts in found]
        rows.append([words, *(_show(value) for value in values)])
    models = dict.fromkeys(artifact.name for run in runs for artifact in of_stage(run.artifacts, "reward"))
    for model in models:
        for name, words in REWARD_FIGURES:
            values = [number(run.by_name[model].summary, name) if model in run.by_name else None for run in runs]
            rows.append([f"{model}: {words}", *(_show(value) for value in values)])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    if not rows:
        return None
    table = Table(["", *(run.letter for run in runs)], rows, frozenset(range(1, len(runs) + 1)))
    lead = "AUC: the chance that a right solution scores above a wrong one, on questions held out from the reward model's training."
    return Section("figures", "Corpus, losses and reward models", lead, [table])


def _show(value: float | None) -> str:
    if value is None:
        return "–"
    return short(value) if value == int(value) and value > 1 else figure(value)


def shared_section(runs: Sequence[ComparedRun]) -> Section:
    """Which artifacts are the same, and at which the runs part."""
    names = list(dict.fromkeys(artifact.name for run in runs for artifact in run.artifacts))
    keys = [{artifact.key for artifact in run.artifacts} for run in runs]
    everywhere = set.intersection(*keys)
    owners = {key: " ".join(run.letter for run, own in zip(runs, keys, strict=True) if key in own) for key in set.union(*keys)}
    drawn = draw_artifacts(
        [artifact for run in runs for artifact in run.artifacts],
        "What the runs share, and where they part",
        "Filled boxes are shared by all; below a name, the runs that have the artifact. Blue: texts; orange: models; green: scores.",
        owners,
        dict.fromkeys(everywhere, "shared"),
    )
    headers = ["Artifact", *(run.letter for run in runs)]
    rows = [[name, *(_key(run, runs[0], name) for run in runs)] for name in names]
    blocks: list[Block] = [drawn, Table(headers, rows, title="Keys", mono=frozenset(range(1, len(runs) + 1)))]
    if apart := _partings(runs):
        blocks.insert(
            1, Table(["Artifact", "Run", "Differs by itself in", "Follows from its"], apart, title=f"Why not as in {runs[0].letter}")
        )
    lead = f"{count(len(everywhere))} artifacts are the same in all runs (same key, made once); the runs have {count(len(owners))} in all."
    return Section("shared", "Shared artifacts", lead, blocks)


def _key(run: ComparedRun, first: ComparedRun, name: str) -> str:
    ours, theirs = run.by_name.get(name), first.by_name.get(name)
    if ours is None:
        return "–"
    return f"as {first.letter}" if run is not first and theirs and theirs.key == ours.key else ours.key[:KEY_DIGITS]


def _partings(runs: Sequence[ComparedRun]) -> list[list[str]]:
    """A row for each artifact of another run that the first has too, but not the same."""
    rows = []
    for name, mine in runs[0].by_name.items():
        for run in runs[1:]:
            other = run.by_name.get(name)
            if other is not None and other.key != mine.key:
                causes, roles = why_apart(mine, other)
                rows.append([name, run.letter, ", ".join(causes) or "–", ", ".join(roles) or "–"])
    return rows


def cost_section(runs: Sequence[ComparedRun]) -> Section:
    """What the artifacts of each run took, wherever they were made first."""
    rows = [[run.letter, *cost_cells(total([cost_of(artifact) for artifact in run.artifacts]))] for run in runs]
    table = Table(["Run", *HEADERS], rows, frozenset(range(1, len(HEADERS) + 1)), note=f"{ENERGY} {NOTES}")
    return Section("cost", "Cost", "Sums over all artifacts of a run, those that an earlier run made included.", [table])
