"""Section "iterations": iterative GRPO with a refreshed and with a frozen reward model (paper section 4.1.4, Figure 6)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mathquarry.data.report.page.artifact import ReportArtifact, series
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count, number
from mathquarry.data.report.page.charts import Line, lines
from mathquarry.data.report.page.noise import CLEAR
from mathquarry.data.report.page.scores import AT_K, read_scores
from mathquarry.data.report.page.source import Named, Source, names_table, strings
from mathquarry.data.report.sections.comparison import Spread

BOTH, REFRESHED, FROZEN = "both", "refreshed", "frozen"
"""Arms in the names of a run's artifacts. Both share the first iteration, since nothing has been refreshed yet."""

_NAME = re.compile(rf"(?:grpo|evaluate)-({BOTH}|{REFRESHED}|{FROZEN})-(\d+)-(\d+)")
_REWARD = re.compile(r"reward-(\d+)-(\d+)")
AUC = "AUC"
"""AUC of the reward model against the answer checker, on the completions in training, averaged over an iteration's steps."""


@dataclass
class Arm:
    """One arm. `metrics` maps a metric to (iteration -> (seed -> value)); iteration 0 is the start policy."""

    metrics: dict[str, dict[int, dict[int, float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))


def arms_of(artifacts: Sequence[ReportArtifact]) -> dict[str, Arm]:
    """Return the two arms of `mathquarry compare RECIPE rewards`; none in other runs. Both contain the shared first iteration."""
    arms: dict[str, Arm] = {}
    for artifact in artifacts:
        match = _NAME.fullmatch(artifact.name)
        if not match:
            continue
        seed, iteration = int(match[2]), int(match[3])
        for name in (REFRESHED, FROZEN) if match[1] == BOTH else (match[1],):
            metrics = arms.setdefault(name, Arm()).metrics
            if artifact.stage == "evaluate":
                for metric, score in read_scores(artifact.summary).columns().items():
                    metrics[metric][iteration][seed] = score.value
            elif values := series(artifact.metrics(), "reward_auc")[1]:
                metrics[AUC][iteration][seed] = sum(values) / len(values)
    return arms


def iteration_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Show scores and the reward model's AUC by iteration for both arms, differences paired by seed, and the effect of each refresh."""
    arms = arms_of(artifacts)
    if not arms:
        return None
    start = next((read_scores(artifact.summary) for artifact in artifacts if artifact.name == "evaluate-sft"), None)
    for arm in arms.values():
        for metric, score in start.columns().items() if start else ():
            arm.metrics[metric][0] = dict.fromkeys(arm.metrics[metric][1], score.value)
    seeds = max(len(values) for arm in arms.values() for by_iteration in arm.metrics.values() for values in by_iteration.values())
    source = _source(_named(artifacts))
    blocks: list[Block] = [_table(arms, source), *_curves(arms, source), _differences(arms, source), *_refreshes(artifacts)]
    return Section(
        "iterations",
        "Refreshed and frozen reward model",
        "Iterations of GRPO from one fine-tuned policy. Both arms share the first iteration. Then the reward model is trained further on "
        f"the latest policy's completions with replay, or frozen. Means over {seeds} seed{'s' if seeds > 1 else ''}; ± and error bars are "
        "one standard error over seeds. AUC: how well the reward model separates correct from wrong completions that the policy is trained "
        "on, according to the answer checker, averaged over an iteration's steps.",
        blocks,
    )


def _named(artifacts: Sequence[ReportArtifact]) -> Named:
    """Return artifacts by arm and iteration, for queries."""
    named = []
    for artifact in artifacts:
        if match := _NAME.fullmatch(artifact.name):
            named += [(f"{arm} {match[3]}", artifact) for arm in ((REFRESHED, FROZEN) if match[1] == BOTH else (match[1],))]
        elif artifact.name == "evaluate-sft":
            named += [(f"{arm} 0", artifact) for arm in (REFRESHED, FROZEN)]
    return named


_MEAN = "count(*) as seeds, avg({0}) as mean, coalesce(stddev_samp({0}) / sqrt(count(*)), 0) as error"


def _source(named: Named) -> Source:
    """Return the query for means and standard errors over the seeds of each arm and iteration."""
    metrics = [name for _, artifact in named for name in artifact.summary if name == "greedy" or AT_K.fullmatch(name)]
    query = (
        f"select name, f.key as metric, {_MEAN.format('f.value::double')}\n"
        f"from {names_table(named)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(metrics)} group by all\n"
        f"union all select name, '{AUC}', {_MEAN.format('auc')} from (\n"
        f"select names.name, key, avg(value) as auc from {names_table(named)} join metrics using (key)\n"
        "where metrics.name = 'reward_auc' group by all) group by all order by all"
    )
    return Source.of((artifact for _, artifact in named), query)


def _spread(values: Mapping[int, float]) -> Spread:
    return Spread.of(list(values.values()))


def _show(metric: str, spread: Spread) -> str:
    if metric != AUC:
        return str(spread)
    return f"{spread.mean:.3f} ± {spread.error:.3f}" if spread.seeds > 1 else f"{spread.mean:.3f}"


def _table(arms: Mapping[str, Arm], source: Source) -> Table:
    metrics = list(dict.fromkeys(metric for arm in arms.values() for metric in arm.metrics))
    rows = []
    for name, arm in arms.items():
        for iteration in sorted({iteration for by_iteration in arm.metrics.values() for iteration in by_iteration}):
            shown = [_show(f, _spread(arm.metrics[f][iteration])) if iteration in arm.metrics[f] else "–" for f in metrics]
            seeds = max(len(arm.metrics[metric].get(iteration, {})) for metric in metrics)
            rows.append([name, count(iteration), count(seeds), *shown])
    return Table(["Reward model", "After iteration", "Seeds", *metrics], rows, frozenset(range(1, len(metrics) + 3)), source=source)


def _curves(arms: Mapping[str, Arm], source: Source) -> list[Block]:
    notes = {
        "Greedy": "Held-out questions; iteration 0 is the fine-tuned policy.",
        AUC: "On the completions that the policy is trained on.",
    }
    blocks: list[Block] = []
    for metric, note in notes.items():
        drawn = []
        for name, arm in arms.items():
            spreads = {iteration: _spread(values) for iteration, values in sorted(arm.metrics[metric].items()) if values}
            means, errors = [spread.mean for spread in spreads.values()], [spread.error for spread in spreads.values()]
            drawn.append(Line(name, list(spreads), means, errors=errors))
        if all(curve.x for curve in drawn):
            spec = lines(drawn, "iteration", y_format=".3f" if metric == AUC else ".0%", points=True)
            spec["layout"]["xaxis"]["dtick"] = 1
            spec["layout"]["yaxis"]["rangemode"] = "normal"  # the arms are close: from zero they would be one line
            title = "Greedy accuracy by iteration" if metric == "Greedy" else "Reward model's AUC by iteration"
            note += " Error bars: one standard error. The axis does not start at zero."
            blocks.append(Chart(title, spec, note, source=source))
    return blocks


def _differences(arms: Mapping[str, Arm], source: Source) -> Table:
    rows = []
    refreshed, frozen = (arms[name].metrics if name in arms else {} for name in (REFRESHED, FROZEN))
    for metric, by_iteration in refreshed.items():
        for iteration, values in sorted(by_iteration.items()):
            other = frozen.get(metric, {}).get(iteration, {})
            shared = sorted(set(values) & set(other))
            if iteration < 2 or not shared:
                continue
            spread = Spread.of([values[seed] - other[seed] for seed in shared])
            scale = 1 if metric == AUC else 100
            text = f"{scale * spread.mean:+.{3 if metric == AUC else 1}f} ± {scale * spread.error:.{3 if metric == AUC else 1}f}"
            rows.append([metric, count(iteration), text + ("" if metric == AUC else " points"), _verdict(spread)])
    headers = ["Metric", "After iteration", "Refreshed minus frozen", f"Verdict ({CLEAR:g} standard errors)"]
    return Table(headers, rows, frozenset({1, 2}), title="Differences, paired by seed", source=source)


def _verdict(spread: Spread) -> str:
    if spread.seeds == 1:
        return "only one seed"
    if abs(spread.mean) < CLEAR * spread.error or spread.mean == 0:
        return "within noise"
    return "refreshed is better" if spread.mean > 0 else "frozen is better"


def _refreshes(artifacts: Sequence[ReportArtifact]) -> list[Block]:
    """Show the AUC of the reward model on held-out questions with the latest policy's solutions, before and after each refresh."""
    found: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    metrics_of_training = ("before_auc", "auc", "auc_within_question")
    named = []
    for artifact in artifacts:
        if match := _REWARD.fullmatch(artifact.name):
            named.append((_training(int(match[2])), artifact))
            for name in metrics_of_training:
                value = number(artifact.summary, name)
                if value is not None:
                    found[int(match[2])][name][int(match[1])] = value
    if not found:
        return []
    rows = [
        [
            _training(iteration),
            count(max(map(len, metrics.values()))),
            *(_show(AUC, _spread(metrics[name])) if metrics[name] else "–" for name in metrics_of_training),
        ]
        for iteration, metrics in sorted(found.items())
    ]
    headers = ["Training", "Seeds", "AUC before", "AUC after", "AUC after, within a question"]
    title = "The refreshed model on held-out questions, answered by the latest policy"
    query = (
        f"select name, f.key as metric, {_MEAN.format('f.value::double')}\n"
        f"from {names_table(named)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(metrics_of_training)} group by all order by all"
    )
    source = Source.of((artifact for _, artifact in named), query)
    return [Table(headers, rows, frozenset({1, 2, 3, 4}), title=title, source=source)]


def _training(iteration: int) -> str:
    return f"after iteration {iteration}" if iteration else "first training"
