"""The report of several runs: differences of their configs, scores and curves, and shared artifacts.

Runs are called A, B, ... in the given order. Differences are relative to A. Runs that differ only in seeds are shown as seeds instead, with
means and spread (`seeds.py`).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.report.build import present, write_page
from mathquarry.data.report.page.artifact import ReportArtifact, joined, of_stage, series
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count, number, rounded, short
from mathquarry.data.report.page.charts import COLOURS, Line, lines
from mathquarry.data.report.page.opening import Opening
from mathquarry.data.report.page.source import Source, metrics_source, names_table, strings, summary_source
from mathquarry.data.report.runs.compare_scores import scores_opening, scores_section
from mathquarry.data.report.runs.run_differences import MISSING, ComparedRun, config_differences, why_apart
from mathquarry.data.report.runs.seeds import SeedRun, are_seeds, read_seeds, seeds_opening
from mathquarry.data.report.runs.seeds_section import seeds_section
from mathquarry.data.report.sections.comparison import method_of
from mathquarry.data.report.sections.cost import ENERGY, HEADERS, NOTES, cost_cells, cost_of, cost_source, total
from mathquarry.data.report.sections.lineage_section import KEY_DIGITS, draw_artifacts
from mathquarry.data.report.sections.provenance import code_version

MOST_RUNS = len(COLOURS)
MOST_SEEDS = len(string.ascii_uppercase)

CURVES = (
    ("reward", "Reward model's score", ".2f"),
    ("accuracy", "Correct share of training completions", ".2f"),
    ("test_accuracy", "Held-out accuracy, greedy", ".0%"),
    ("groups_mixed", "Groups with correct and wrong completions", ".0%"),
    ("kl", "KL to the reference", ""),
    ("entropy", "Entropy", ""),
    ("completion_tokens", "Completion length in tokens", ""),
    ("reward_auc", "Reward model's AUC on the rollouts", ".2f"),
)
"""Metrics of `grpo`, with title and axis format."""

METRICS = (
    ("mine", "pages", "Pages in the corpus"),
    ("mine", "tokens", "Tokens in the corpus, estimated"),
    ("mine", "rounds", "Rounds of mining"),
    ("mine", "math_precision", "Precision: mathematical share of collected pages"),
    ("mine", "math_recall", "Recall: collected share of mathematical pages"),
    ("curate", "examples", "Fine-tuning examples"),
    ("pretrain", "tokens", "Pretraining tokens"),
    ("pretrain", "loss", "Last pretraining loss"),
    ("sft", "loss", "Last fine-tuning loss"),
)
"""Metrics of a stage's last artifact: stage, name in the summary, label."""
REWARD_METRICS = (
    ("before_auc", "AUC before"),
    ("auc", "AUC"),
    ("auc_within_question", "AUC within a question"),
    ("step_auc", "AUC of steps"),
)


def build_comparison(runs: Sequence[tuple[dict[str, Any], list[ReportArtifact]]], out: Path) -> dict[str, int | float | str]:
    """Write `out / "report.html"` about (record, artifacts) of at least two runs. Returns its size, sections and charts.

    Raises `MathQuarryError` if there are more runs than colours (or letters, if they differ only in seeds), or if a file cannot be read.
    """
    as_seeds = are_seeds([record.get("config", {}) for record, _ in runs])
    most = MOST_SEEDS if as_seeds else MOST_RUNS
    if len(runs) > most:
        raise MathQuarryError(f"{len(runs)} runs do not fit side by side; name at most {most}.")
    compared = [ComparedRun(letter, record, artifacts) for letter, (record, artifacts) in zip(string.ascii_uppercase, runs, strict=False)]
    recipes = dict.fromkeys(run.record["recipe"] for run in compared)
    if as_seeds:
        heading = {"recipe": f"{', '.join(recipes)}: {len(compared)} seeds", "id": "", "started": ""}
        seeds = read_seeds(compared)
        return write_page(heading, [], seeds_sections(seeds), out, seeds_opening(seeds))
    heading = {"recipe": f"{', '.join(recipes)}: {len(compared)} runs side by side", "id": "", "started": ""}
    return write_page(heading, [], comparison_sections(compared), out, Opening(findings=scores_opening(compared)))


def seeds_sections(seeds: Sequence[SeedRun]) -> list[Section]:
    """Return the sections of a page over seeds. Runs keep their letters in the sections about shared artifacts and cost."""
    runs = [one.run for one in seeds]
    return present([seeds_section(seeds), runs_section(runs), metrics_section(runs), shared_section(runs), cost_section(runs)])


def comparison_sections(runs: Sequence[ComparedRun]) -> list[Section]:
    """Return the sections of the page, without empty ones."""
    return present(
        [runs_section(runs), scores_section(runs), curves_section(runs), metrics_section(runs), shared_section(runs), cost_section(runs)]
    )


def runs_section(runs: Sequence[ComparedRun]) -> Section:
    """List the runs, and the fields of their configs that differ."""
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
    """Draw losses and GRPO's curves of all runs in the same charts."""
    blocks: list[Block] = []
    for stage, title in (("pretrain", "Pretraining loss"), ("sft", "Fine-tuning loss")):
        blocks += _overlaid(runs, stage, "loss", title, "")
    for metric, title, y_format in CURVES:
        blocks += _overlaid(runs, "grpo", metric, title, y_format)
    if not blocks:
        return None
    lead = "Curves over each run's steps. Iterations of GRPO follow each other. Curves of shared artifacts coincide."
    return Section("curves", "Curves", lead, blocks)


def _overlaid(runs: Sequence[ComparedRun], stage: str, metric: str, title: str, y_format: str) -> list[Block]:
    drawn, named = [], []
    for colour, run in zip(COLOURS, runs, strict=False):
        # Methods and arms of an experiment do not follow each other. Their own pages compare them.
        parts = [artifact for artifact in of_stage(run.artifacts, stage) if artifact.name == stage or artifact.iteration]
        steps, values = series(joined([part for part in parts if method_of(part) is None])[0], metric)
        if values:
            drawn.append(Line(run.letter, steps, values, colour))
            named += [(f"{run.letter} {part.name}", part) for part in parts]
    return [Chart(title, lines(drawn, "step", y_format), source=metrics_source(named, [metric]))] if drawn else []


def metrics_section(runs: Sequence[ComparedRun]) -> Section | None:
    """Show sizes, losses, and how well the reward models separate correct from wrong solutions."""
    rows = []
    named = {(run.letter, artifact.name): artifact for run in runs for artifact in of_stage(run.artifacts, "reward")}
    for stage, name, words in METRICS:
        found = [of_stage(run.artifacts, stage) for run in runs]
        values = [number(artifacts[-1].summary, name) if artifacts else None for artifacts in found]
        named |= {(run.letter, own[-1].name): own[-1] for run, own in zip(runs, found, strict=True) if own}
        rows.append([words, *(_show(value) for value in values)])
    models = dict.fromkeys(artifact.name for run in runs for artifact in of_stage(run.artifacts, "reward"))
    for model in models:
        for name, words in REWARD_METRICS:
            values = [number(run.by_name[model].summary, name) if model in run.by_name else None for run in runs]
            rows.append([f"{model}: {words}", *(_show(value) for value in values)])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    if not rows:
        return None
    metrics = dict.fromkeys([*(name for _, name, _ in METRICS), *(name for name, _ in REWARD_METRICS)])
    source = summary_source([(" ".join(names), artifact) for names, artifact in named.items()], metrics)
    table = Table(["", *(run.letter for run in runs)], rows, frozenset(range(1, len(runs) + 1)), source=source)
    lead = "AUC: the probability that a correct solution scores above a wrong one, on questions held out from the reward model's training."
    return Section("metrics", "Corpus, losses and reward models", lead, [table])


def _show(value: float | None) -> str:
    if value is None:
        return "–"
    return short(value) if value == int(value) and value > 1 else rounded(value)


def shared_section(runs: Sequence[ComparedRun]) -> Section:
    """Show which artifacts are shared, and where the runs differ."""
    names = list(dict.fromkeys(artifact.name for run in runs for artifact in run.artifacts))
    keys = [{artifact.key for artifact in run.artifacts} for run in runs]
    everywhere = set.intersection(*keys)
    owners = {key: " ".join(run.letter for run, own in zip(runs, keys, strict=True) if key in own) for key in set.union(*keys)}
    drawn = draw_artifacts(
        [artifact for run in runs for artifact in run.artifacts],
        "Shared and different artifacts",
        "Filled boxes are shared by all runs. Its runs are listed below each name. Blue: texts; orange: models; green: scores.",
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
    lead = f"{count(len(everywhere))} artifacts are shared by all runs (same key, made once), of {count(len(owners))} in total."
    return Section("shared", "Shared artifacts", lead, blocks)


def _key(run: ComparedRun, first: ComparedRun, name: str) -> str:
    ours, theirs = run.by_name.get(name), first.by_name.get(name)
    if ours is None:
        return "–"
    return f"as {first.letter}" if run is not first and theirs and theirs.key == ours.key else ours.key[:KEY_DIGITS]


def _partings(runs: Sequence[ComparedRun]) -> list[Table]:
    """Return a table with a row for each artifact that the first run has too, but with another key."""
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
    headers = ["Artifact", "Run", "Own differences", "Different inputs"]
    source = Source.of((artifact for _, artifact in named), query)
    return [Table(headers, rows, title=f"Differences from {runs[0].letter}", source=source)]


def cost_section(runs: Sequence[ComparedRun]) -> Section:
    """Show the cost of each run's artifacts, wherever they were made."""
    rows = [[run.letter, *cost_cells(total([cost_of(artifact) for artifact in run.artifacts]))] for run in runs]
    source = cost_source([(run.letter, artifact) for run in runs for artifact in run.artifacts])
    table = Table(["Run", *HEADERS], rows, frozenset(range(1, len(HEADERS) + 1)), note=f"{ENERGY} {NOTES}", source=source)
    return Section("cost", "Cost", "Sums over all artifacts of a run, including those made by an earlier run.", [table])


def _source(runs: Sequence[ComparedRun], query: str) -> Source:
    """Return a query over all artifacts of the runs."""
    return Source.of((artifact for run in runs for artifact in run.artifacts), query)


def _ids(runs: Sequence[ComparedRun]) -> str:
    return strings(str(run.record["id"]) for run in runs)
