"""Section "seeds": tables and charts of runs that differ only in seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mathquarry.data.report.page.artifact import ReportArtifact, joined, of_stage, series
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count
from mathquarry.data.report.page.charts import Line, lines
from mathquarry.data.report.page.noise import CHANCE, seeds_agree
from mathquarry.data.report.page.source import Source, literal, names_table, strings
from mathquarry.data.report.runs.seeds import (
    CHANGES,
    EVERY,
    SCORES,
    SeedRun,
    differences_over,
    in_order,
    majorities_of,
    metrics_of,
    points_over,
)
from mathquarry.data.report.sections.comparison import Spread
from mathquarry.data.report.sections.policies import step_pairs

CURVES = (
    ("reward", "Reward model's score", ".2f"),
    ("accuracy", "Correct share of training completions", ".0%"),
    ("kl", "KL to the reference", ""),
    ("reward_auc", "Reward model's AUC on the rollouts", ".2f"),
)


def seeds_section(seeds: Sequence[SeedRun]) -> Section | None:
    """Show scores and changes with their spread, each seed's scores, and curves."""
    labels = list(dict.fromkeys(label for one in seeds for label in one.policies))
    if not labels:
        return None
    blocks: list[Block] = [
        _scores(seeds, labels),
        *([_changes(seeds, labels)] if len(labels) > 1 else []),
        *_charts(seeds, labels),
        _every_seed(seeds, labels),
        *_curves(seeds),
    ]
    return Section(
        "seeds",
        "Seeds",
        f"{count(len(seeds))} runs of one recipe that differ only in seeds. ± and error bars are one standard error over seeds; "
        "lowest and highest are those of single runs.",
        blocks,
    )


def _scores(seeds: Sequence[SeedRun], labels: Sequence[str]) -> Table:
    """Return a table with a row per policy."""
    metrics = metrics_of(seeds)
    rows = []
    for label in labels:
        row = [label, count(sum(label in one.policies for one in seeds))]
        for metric in metrics:
            values = [one.scores[metric][label] for one in seeds if label in one.scores.get(metric, {})]
            row += [str(Spread.of(values)), f"{100 * min(values):.1f} to {100 * max(values):.1f}"] if values else ["–", "–"]
        rows.append(row)
    headers = ["Policy", "Seeds", *(header for metric in metrics for header in (metric, "lowest to highest"))]
    return Table(headers, rows, frozenset(range(1, len(headers))), SCORES, source=_score_source(seeds))


def _changes(seeds: Sequence[SeedRun], labels: Sequence[str]) -> Table:
    """Return a table with a row per pair of consecutive policies, and one from the start of RL to its end."""
    pairs = step_pairs(labels)
    metrics = metrics_of(seeds)
    rows = []
    for before, after in pairs:
        found = differences_over(seeds, "Greedy", before, after)
        if found:
            up, down = sum(value > 0 for value in found), sum(value < 0 for value in found)
            row = [before, after, count(len(found)), points_over(found), count(up), count(down), _verdict(found)]
            others = [differences_over(seeds, metric, before, after) for metric in metrics if metric != "Greedy"]
            rows.append([*row, *(points_over(values) if values else "–" for values in others)])
    headers = ["From", "To", "Seeds", "Greedy", "Up in", "Down in", f"Greedy is (t-test, p < {CHANCE:g})"]
    headers += [metric for metric in metrics if metric != "Greedy"]
    numeric = frozenset(range(2, len(headers))) - {6}
    note = "In points: the mean of the changes of each seed, ± one standard error over seeds."
    return Table(headers, rows, numeric, CHANGES, note=note, source=_change_source(seeds, pairs))


def _verdict(found: Sequence[float]) -> str:
    if len(found) == 1:
        return "only one seed"
    if not seeds_agree(found):
        return "within noise"
    return "rose" if sum(found) > 0 else "fell"


def _charts(seeds: Sequence[SeedRun], labels: Sequence[str]) -> list[Block]:
    """Draw each seed's scores by policy as a thin line, and the mean as a thick line."""
    blocks: list[Block] = []
    for metric in ("Greedy", *majorities_of(seeds)):
        own = [
            Line(
                f"seed {one.seed}",
                [place for place, label in enumerate(labels) if label in found],
                [found[label] for label in labels if label in found],
                "@muted",
            )
            for one in seeds
            if (found := one.scores.get(metric))
        ]
        places = [place for place, label in enumerate(labels) if any(label in one.scores.get(metric, {}) for one in seeds)]
        spreads = [
            Spread.of([one.scores[metric][labels[place]] for one in seeds if labels[place] in one.scores.get(metric, {})])
            for place in places
        ]
        mean = Line("mean", places, [spread.mean for spread in spreads], "@c1", [spread.error for spread in spreads])
        spec = lines([*own, mean], "", ".0%", points=True)
        _thin_all_but_last(spec)
        spec["layout"]["xaxis"] |= {"tickvals": list(range(len(labels))), "ticktext": list(labels)}
        title = "Greedy accuracy by policy" if metric == "Greedy" else f"{metric} by policy"
        blocks.append(Chart(title, spec, "Thin lines: seeds. Thick line: mean, with one standard error.", source=_score_source(seeds)))
    return blocks


def _thin_all_but_last(spec: dict[str, Any]) -> None:
    for trace in spec["data"][:-1]:
        trace |= {"mode": "lines", "showlegend": False}
        trace["line"]["width"] = 1
    spec["data"][-1]["line"]["width"] = 3
    spec["layout"] |= {"showlegend": False, "hovermode": "closest"}


def _every_seed(seeds: Sequence[SeedRun], labels: Sequence[str]) -> Table:
    metrics = ("Greedy", *majorities_of(seeds))
    rows = []
    for one in seeds:
        row = [one.seed, str(one.run.record["id"])]
        for metric in metrics:
            row += [f"{100 * one.scores[metric][label]:.1f}" if label in one.scores.get(metric, {}) else "–" for label in labels]
            if len(labels) > 1:
                row.append("yes" if in_order(one, metric, labels) else "no")
        rows.append(row)
    own = [
        header
        for metric in metrics
        for header in (*(f"{metric}, {label}" for label in labels), *(["rises each time"] if len(labels) > 1 else []))
    ]
    headers = ["Seed", "Run", *own]
    numeric = frozenset({0, *range(2, len(headers))})
    return Table(headers, rows, numeric, EVERY, mono=frozenset({1}), note="In percent.", source=_seed_source(seeds))


def _curves(seeds: Sequence[SeedRun]) -> list[Block]:
    """Draw each seed's curve as a thin line, and the mean over common steps as a thick line."""
    blocks: list[Block] = []
    for metric, title, y_format in CURVES:
        own, named = [], []
        for one in seeds:
            parts = of_stage(one.run.artifacts, "grpo")
            steps, values = series(joined(parts)[0], metric)
            if values:
                own.append(Line(f"seed {one.seed}", steps, values, "@muted"))
                named += [(f"seed {one.seed} {part.name}", part) for part in parts]
        if not own:
            continue
        by_step = [dict(zip(line.x, line.y, strict=True)) for line in own]
        shared = sorted(set.intersection(*map(set, by_step)))
        drawn = (
            [*own, Line("mean", shared, [sum(one[step] for one in by_step) / len(by_step) for step in shared], "@c1")] if shared else own
        )
        spec = lines(drawn, "step", y_format)
        _thin_all_but_last(spec)
        blocks.append(Chart(title, spec, "Thin lines: seeds. Thick line: mean.", source=_curve_source(named, metric)))
    return blocks


def _curve_source(named: Sequence[tuple[str, ReportArtifact]], metric: str) -> Source:
    """Return the values of every seed by position along its iterations, and their mean."""
    rows = ", ".join(f"({literal(name.split()[1])}, {place}, {literal(artifact.key)})" for place, (name, artifact) in enumerate(named))
    query = (
        "with own as (select seed, value, row_number() over (partition by seed order by part, step) as place\n"
        f"from (values {rows}) as parts(seed, part, key) join metrics using (key) where name = {literal(metric)})\n"
        "select seed, place, value from own union all select 'mean', place, avg(value) from own group by place order by seed, place"
    )
    return Source.of((artifact for _, artifact in named), query)


def _named(seeds: Sequence[SeedRun]) -> list[tuple[str, ReportArtifact]]:
    return [(label, artifact) for one in seeds for label, artifact in one.policies.items()]


def _keys_of_scores(seeds: Sequence[SeedRun]) -> str:
    return strings(metric.lower() for metric in metrics_of(seeds))


def _score_source(seeds: Sequence[SeedRun]) -> Source:
    query = (
        "select name as policy, f.key as score, count(*) as seeds, avg(f.value::double) as mean,\n"
        "coalesce(stddev_samp(f.value::double) / sqrt(count(*)), 0) as error, min(f.value::double) as lowest,\n"
        "max(f.value::double) as highest, list(f.value::double) as each_seed\n"
        f"from {names_table(_named(seeds))} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {_keys_of_scores(seeds)} group by all order by all"
    )
    return Source.of((artifact for _, artifact in _named(seeds)), query)


def _seed_source(seeds: Sequence[SeedRun]) -> Source:
    rows = ", ".join(
        f"({literal(one.seed)}, {literal(label)}, {literal(artifact.key)})" for one in seeds for label, artifact in one.policies.items()
    )
    query = (
        "select seed, policy, f.key as score, 100 * f.value::double as per_cent\n"
        f"from (values {rows}) as policies(seed, policy, key) join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {_keys_of_scores(seeds)} order by all"
    )
    return Source.of((artifact for _, artifact in _named(seeds)), query)


def _change_source(seeds: Sequence[SeedRun], pairs: Sequence[tuple[str, str]]) -> Source:
    rows = ",\n".join(
        f"({', '.join(map(literal, (one.seed, before, after, one.policies[before].key, one.policies[after].key)))})"
        for one in seeds
        for before, after in pairs
        if before in one.policies and after in one.policies
    )
    query = (
        "with changes as (select seed, before, after, f.key as score,\n"
        "(b.summary->>f.key)::double - f.value::double as change\n"
        f"from (values {rows}) as pairs(seed, before, after, one, other)\n"
        "join artifacts as a on a.key = one join artifacts as b on b.key = other, json_each(a.summary) as f\n"
        f"where f.key in {_keys_of_scores(seeds)})\n"
        "select before, after, score, count(*) as seeds, 100 * avg(change) as points,\n"
        "100 * coalesce(stddev_samp(change) / sqrt(count(*)), 0) as error, count(*) filter (change > 0) as up,\n"
        "count(*) filter (change < 0) as down from changes group by all order by all"
    )
    return Source.of((artifact for _, artifact in _named(seeds)), query)
