"""A page that puts runs side by side: what differs in their configs, scores and curves, and which artifacts they share.

Runs go by the letters A, B, ... in the order in which they are given; differences are against A.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import MathQuarryError
from data.report.artifact import ReportArtifact, joined, of_stage, series
from data.report.blocks import Block, Chart, Section, Table, count, figure, number, short
from data.report.build import present, write_page
from data.report.charts import COLOURS, Line, lines
from data.report.compare_scores import scores_section
from data.report.comparison import method_of
from data.report.cost import ENERGY, HEADERS, NOTES, cost_cells, cost_of, cost_source, total
from data.report.lineage import KEY_DIGITS, draw_artifacts
from data.report.provenance import code_version
from data.report.run_differences import MISSING, ComparedRun, config_differences, why_apart
from data.report.source import Source, metrics_source, names_table, strings, summary_source

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
    query = (
        "select id, recipe, started, r.status, count(*) as artifacts, list(distinct concat_ws(' ', code_version, code_revision)) as code\n"
        f"from runs as r join run_stages as s using (id) left join artifacts using (key)\n"
        f"where id in {_ids(runs)} and s.stage <> 'report' group by all order by started"
    )
    headers = ["Run", "Recipe", "Id", "Started (UTC)", "Status", "Artifacts", "Code"]
    listed = Table(headers, rows, frozenset({5}), mono=frozenset({2, 3}), source=_source(runs, query))
    fields = config_differences([run.record.get("config", {}) for run in runs])
    apart = [[name, *values] for name, values in fields]
    blocks: list[Block] = [listed]
    if apart:
        absent = f"{MISSING}: not in that recipe." if any(MISSING in row for row in apart) else ""
        # A path of DuckDB has names that are no plain words in double quotes.
        query = (
            "select runs.id, replace(fullkey, '\"', '')[3:] as field, f.value from runs, json_tree(config) as f\n"
            f"where runs.id in {_ids(runs)} and field in {strings(name for name, _ in fields)} order by field, runs.id"
        )
        headers = ["Field", *(run.letter for run in runs)]
        blocks.append(Table(headers, apart, title="Fields that differ", note=absent, source=_source(runs, query)))
    lead = f"{count(len(apart))} fields of their resolved recipes differ." if apart else "Their resolved recipes are the same."
    return Section("runs", "Runs", lead, blocks)


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
    drawn, named = [], []
    for colour, run in zip(COLOURS, runs, strict=False):
        # Methods and arms of an experiment are not one after another; their own pages compare them.
        parts = [artifact for artifact in of_stage(run.artifacts, stage) if artifact.name == stage or artifact.iteration]
        steps, values = series(joined([part for part in parts if method_of(part) is None])[0], metric)
        if values:
            drawn.append(Line(run.letter, steps, values, colour))
            named += [(f"{run.letter} {part.name}", part) for part in parts]
    return [Chart(title, lines(drawn, "step", y_format), source=metrics_source(named, [metric]))] if drawn else []


def figures_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Sizes and losses, and how well the reward models tell right from wrong."""
    rows = []
    named = {(run.letter, artifact.name): artifact for run in runs for artifact in of_stage(run.artifacts, "reward")}
    for stage, name, words in FIGURES:
        found = [of_stage(run.artifacts, stage) for run in runs]
        values = [number(artifacts[-1].summary, name) if artifacts else None for artifacts in found]
        named |= {(run.letter, own[-1].name): own[-1] for run, own in zip(runs, found, strict=True) if own}
        rows.append([words, *(_show(value) for value in values)])
    models = dict.fromkeys(artifact.name for run in runs for artifact in of_stage(run.artifacts, "reward"))
    for model in models:
        for name, words in REWARD_FIGURES:
            values = [number(run.by_name[model].summary, name) if model in run.by_name else None for run in runs]
            rows.append([f"{model}: {words}", *(_show(value) for value in values)])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    if not rows:
        return None
    figures = dict.fromkeys([*(name for _, name, _ in FIGURES), *(name for name, _ in REWARD_FIGURES)])
    source = summary_source([(" ".join(names), artifact) for names, artifact in named.items()], figures)
    table = Table(["", *(run.letter for run in runs)], rows, frozenset(range(1, len(runs) + 1)), source=source)
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
        source=_source(
            runs,
            "select key, list(distinct name) as names, list(distinct id) as runs, role, input\n"
            f"from run_stages left join inputs using (key) where id in {_ids(runs)} and stage <> 'report' group by all\n"
            "order by names, role",
        ),
    )
    query = (
        "select name, key, list(id order by id) as runs from run_stages\n"
        f"where id in {_ids(runs)} and stage <> 'report' group by all order by min(position), runs"
    )
    headers = ["Artifact", *(run.letter for run in runs)]
    rows = [[name, *(_key(run, runs[0], name) for run in runs)] for name in names]
    listed = Table(headers, rows, title="Keys", mono=frozenset(range(1, len(runs) + 1)), source=_source(runs, query))
    blocks: list[Block] = [drawn, *_partings(runs), listed]
    lead = f"{count(len(everywhere))} artifacts are the same in all runs (same key, made once); the runs have {count(len(owners))} in all."
    return Section("shared", "Shared artifacts", lead, blocks)


def _key(run: ComparedRun, first: ComparedRun, name: str) -> str:
    ours, theirs = run.by_name.get(name), first.by_name.get(name)
    if ours is None:
        return "–"
    return f"as {first.letter}" if run is not first and theirs and theirs.key == ours.key else ours.key[:KEY_DIGITS]


def _partings(runs: Sequence[ComparedRun]) -> list[Table]:
    """A table with a row for each artifact of another run that the first has too, but not the same."""
    rows, named = [], []
    for name, mine in runs[0].by_name.items():
        for run in runs[1:]:
            other = run.by_name.get(name)
            if other is not None and other.key != mine.key:
                causes, roles = why_apart(mine, other)
                rows.append([name, run.letter, ", ".join(causes) or "–", ", ".join(roles) or "–"])
                named += [(f"{runs[0].letter} {name}", mine), (f"{run.letter} {name}", other)]
    if not rows:
        return []
    query = (
        "select distinct name, key, version, config, (select list(role || ': ' || input order by role) from inputs where key = made.key)\n"
        "as inputs, (select list(sha256 order by sha256) from sources where key = made.key) as files_from_outside\n"
        f"from {names_table(named)} join artifacts as made using (key) order by name[3:], name"
    )
    headers = ["Artifact", "Run", "Differs by itself in", "Follows from its"]
    source = Source.of((artifact for _, artifact in named), query)
    return [Table(headers, rows, title=f"Why not as in {runs[0].letter}", source=source)]


def cost_section(runs: Sequence[ComparedRun]) -> Section:
    """What the artifacts of each run took, wherever they were made first."""
    rows = [[run.letter, *cost_cells(total([cost_of(artifact) for artifact in run.artifacts]))] for run in runs]
    source = cost_source([(run.letter, artifact) for run in runs for artifact in run.artifacts])
    table = Table(["Run", *HEADERS], rows, frozenset(range(1, len(HEADERS) + 1)), note=f"{ENERGY} {NOTES}", source=source)
    return Section("cost", "Cost", "Sums over all artifacts of a run, those that an earlier run made included.", [table])


def _source(runs: Sequence[ComparedRun], query: str) -> Source:
    """A query over all artifacts of the runs."""
    return Source.of((artifact for run in runs for artifact in run.artifacts), query)


def _ids(runs: Sequence[ComparedRun]) -> str:
    return strings(str(run.record["id"]) for run in runs)
