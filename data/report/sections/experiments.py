"""Section "experiment": pretraining runs that differ only in their data, as in the paper's Tables 1 and 6 to 9 and Figure 3."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mathquarry.data.report.page.artifact import ReportArtifact, series
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count, short
from mathquarry.data.report.page.charts import Line, grouped_bars, lines
from mathquarry.data.report.page.noise import CLEAR
from mathquarry.data.report.page.source import Source, literal, strings
from mathquarry.data.report.page.text import aligned
from mathquarry.data.report.sections.comparison import Spread

_NAME = re.compile(r"(?:pretrain|evaluate|harness)-(?:part\d+-)?(corpora|code|papers)-(.+)-(\d+)")
TITLES = {"corpora": "Corpora compared", "code": "Code and mathematics", "papers": "Papers alone"}
PAPER = {"corpora": "Table 1 and Figure 3", "code": "Tables 6 and 7", "papers": "Tables 8 and 9"}
_BITS = "_bits"
START = "start"
"""Name of the arm that the others start from."""


@dataclass
class Arm:
    """One arm of an experiment. `metrics` maps a metric to its value per seed, `curves` a text to its curve per seed.

    `parts` are its artifacts: the seed, tokens trained before, tokens per step (both 0 if nothing is trained), and the artifact.
    """

    experiment: str
    name: str
    tokens: int = 0
    metrics: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    curves: dict[str, dict[int, dict[int, float]]] = field(default_factory=lambda: defaultdict(dict))
    parts: list[tuple[int, int, int, ReportArtifact]] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """Return all seeds with a metric."""
        return sorted({seed for values in self.metrics.values() for seed in values})


def arms_of(artifacts: Sequence[ReportArtifact]) -> list[Arm]:
    """Return the arms of a run of `mathquarry ablate`, in its order; none in other runs."""
    arms: dict[str, Arm] = {}
    trained: dict[tuple[str, int], int] = defaultdict(int)
    for artifact in artifacts:
        match = _NAME.fullmatch(artifact.name)
        if not match:
            continue
        experiment, name, seed = match[1], match[2], int(match[3])
        arm = arms.setdefault(name, Arm(experiment, name))
        if artifact.stage == "pretrain":
            before = trained[name, seed]
            trained[name, seed] += int(artifact.summary.get("tokens", 0))
            arm.tokens = trained[name, seed]
            batch = int(artifact.config.get("pretrain", {}).get("batch_tokens", 1))
            arm.parts.append((seed, before, batch, artifact))
            records = artifact.metrics()
            for key in sorted({key for record in records for key in record["values"] if key.endswith(_BITS)}):
                steps, values = series(records, key)
                arm.curves[key].setdefault(seed, {}).update(
                    {before + step * batch: value for step, value in zip(steps, values, strict=True)}
                )
                arm.metrics[key][seed] = values[-1]
        else:
            arm.parts.append((seed, 0, 0, artifact))
            for key, value in _scores(artifact).items():
                arm.metrics[key][seed] = value
    return list(arms.values())


def _scores(artifact: ReportArtifact) -> dict[str, float]:
    """Return accuracies as shares of 1: greedy, and the harness's scores."""
    if artifact.stage == "evaluate":
        return {"greedy": float(artifact.summary["greedy"])}
    return {name: float(value) for name, value in artifact.summary.items() if not name.endswith((" questions", "_se"))}


def text_table(arms: Sequence[Arm]) -> list[str]:
    """Return the arms with means and standard errors over seeds, as lines of plain text."""
    headers, rows = _table(arms)
    return aligned([headers, *rows])


def experiment_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show table, curves and differences of an experiment's arms; `None` in other runs."""
    arms = arms_of(artifacts)
    if not arms:
        return None
    experiment, seeds = arms[0].experiment, max(len(arm.seeds) for arm in arms)
    headers, rows = _table(arms)
    source = _metrics_source(arms)
    blocks: list[Block] = [
        Table(headers, rows, frozenset(range(1, len(headers))), source=source),
        *_curves(arms),
        *_bars(arms, source),
        _differences(arms, source),
    ]
    return Section(
        "experiment",
        TITLES[experiment],
        f"The paper's {PAPER[experiment]} at this run's scale: runs that differ only in their training texts. Means over {seeds} "
        f"seed{'s' if seeds > 1 else ''}; ± is one standard error over seeds. Bits per byte of held-out text: lower is better.",
        blocks,
    )


def _parts(arms: Sequence[Arm], trained: bool) -> tuple[list[ReportArtifact], str]:
    """Return the arms' artifacts (trained or scored ones), and a table of them for `from`."""
    parts = [(arm, *part) for arm in arms for part in arm.parts if (part[-1].stage == "pretrain") == trained]
    rows = ",\n".join(f"({literal(arm.name)}, {seed}, {before}, {batch}, {literal(made.key)})" for arm, seed, before, batch, made in parts)
    return [made for *_, made in parts], f"(values {rows}) as parts(arm, seed, before, batch, key)"


def _curve_source(arms: Sequence[Arm], metric: str) -> Source:
    made, parts = _parts(arms, trained=True)
    query = (
        "select arm, before + step * batch as tokens, avg(value) as mean, count(*) as seeds\n"
        f"from {parts} join metrics using (key)\nwhere name = {literal(metric)} group by all order by all"
    )
    return Source.of(made, query)


def _metrics_source(arms: Sequence[Arm]) -> Source:
    """Return the query for means and standard errors over seeds: of tokens, of the last bits per byte, and of scores."""
    trained, parts = _parts(arms, trained=True)
    values = (
        f"select arm, seed, 'tokens' as metric, sum((summary->>'tokens')::double) as value\n"
        f"from {parts} join artifacts using (key) group by all\n"
        "union all select arm, seed, name, arg_max(value, before + step * batch)\n"
        f"from {parts} join metrics using (key) where ends_with(name, '{_BITS}') group by all"
    )
    scored, others = _parts(arms, trained=False)
    if scored:
        metrics = strings(metric for artifact in scored for metric in _scores(artifact))
        values += (
            "\nunion all select arm, seed, f.key, f.value::double\n"
            f"from {others} join artifacts using (key), json_each(summary) as f where f.key in {metrics}"
        )
    query = (
        "select arm, metric, count(*) as seeds, avg(value) as mean, coalesce(stddev_samp(value) / sqrt(count(*)), 0) as error,\n"
        f"map(list(seed), list(value)) as by_seed\nfrom ({values})\ngroup by all order by all"
    )
    return Source.of([*trained, *scored], query)


def _names(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(name for arm in arms for name in arm.metrics))


def _label(metric: str) -> str:
    return f"Bits per byte, {metric.removesuffix(_BITS).replace('_', ' ')}" if metric.endswith(_BITS) else metric.capitalize()


def _show(metric: str, values: Mapping[int, float]) -> str:
    if not values:
        return "–"
    spread = Spread.of(list(values.values()))
    if not metric.endswith(_BITS):
        return str(spread)
    return f"{spread.mean:.3f} ± {spread.error:.3f}" if spread.seeds > 1 else f"{spread.mean:.3f}"


def _table(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]]:
    names = _names(arms)
    rows = [
        [arm.name, count(len(arm.seeds)), short(arm.tokens), *(_show(name, arm.metrics.get(name, {})) for name in names)] for arm in arms
    ]
    return ["Arm", "Seeds", "Tokens", *map(_label, names)], rows


def _curves(arms: Sequence[Arm]) -> list[Block]:
    blocks: list[Block] = []
    for name in _names(arms):
        drawn = []
        for arm in arms:
            runs = list(arm.curves.get(name, {}).values())
            if runs:
                shared = sorted(set.intersection(*map(set, runs)))
                drawn.append(Line(arm.name, shared, [Spread.of([run[tokens] for run in runs]).mean for tokens in shared]))
        if drawn:
            note = "Held-out text during training, over each arm's own tokens. Means over seeds."
            blocks.append(Chart(_label(name), lines(drawn, "tokens", points=True), note, source=_curve_source(arms, name)))
    return blocks


def _bars(arms: Sequence[Arm], source: Source) -> list[Block]:
    names = [name for name in _names(arms) if not name.endswith(_BITS)]
    if not names:
        return []
    spreads = {name: [Spread.of(list(arm.metrics[name].values())) if name in arm.metrics else None for arm in arms] for name in names}
    bars = [(_label(n), [s.mean if s else None for s in spreads[n]], [s.error if s else None for s in spreads[n]]) for n in names]
    spec = grouped_bars([arm.name for arm in arms], bars)
    return [Chart("Accuracy by arm", spec, "Error bars: one standard error.", wide=True, source=source)]


def _differences(arms: Sequence[Arm], source: Source) -> Table:
    """Compare each arm with the recipe's first, paired by seed."""
    rows = []
    first = next((arm for arm in arms if arm.name != START), arms[0])
    for arm in arms:
        if arm is first:
            continue
        for name in _names(arms):
            shared = sorted(set(first.metrics.get(name, {})) & set(arm.metrics.get(name, {})))
            if shared:
                spread = Spread.of([arm.metrics[name][seed] - first.metrics[name][seed] for seed in shared])
                rows.append([f"{arm.name} against {first.name}", _label(name), *_verdict(name, spread)])
    headers = ["Arms", "Metric", "Difference", f"Verdict ({CLEAR:g} standard errors)"]
    return Table(headers, rows, frozenset({2}), title="Differences, paired by seed", source=source)


def _verdict(metric: str, spread: Spread) -> tuple[str, str]:
    bits = metric.endswith(_BITS)
    text = f"{spread.mean:+.3f} ± {spread.error:.3f}" if bits else f"{100 * spread.mean:+.1f} ± {100 * spread.error:.1f} points"
    if spread.seeds == 1:
        return text.partition(" ±")[0], "only one seed"
    if abs(spread.mean) < CLEAR * spread.error:
        return text, "within noise"
    return text, "better" if (spread.mean < 0) == bits else "worse"
