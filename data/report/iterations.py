"""Section "iterations": iterative GRPO with a reward model that is refreshed, and with a frozen one (paper section 4.1.4, Figure 6)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data.report.artifact import ReportArtifact, series
from data.report.blocks import Block, Chart, Section, Table, count, number
from data.report.charts import Line, lines
from data.report.comparison import CLEAR, Spread
from data.report.scores import AT_K, read_scores
from data.report.source import Named, Source, names_table, strings

BOTH, REFRESHED, FROZEN = "both", "refreshed", "frozen"
"""Arms in the names of a run's artifacts. The first iteration is the same for both: nothing has been refreshed yet."""

_NAME = re.compile(rf"(?:grpo|evaluate)-({BOTH}|{REFRESHED}|{FROZEN})-(\d+)-(\d+)")
_REWARD = re.compile(r"reward-(\d+)-(\d+)")
AUC = "AUC"
"""Of the reward model on the outputs that the policy learned from, the mean of an iteration's steps; truth is the answer checker's."""


@dataclass
class Arm:
    """One way to iterate. `figures` maps a figure to (iteration -> (seed -> value)); iteration 0 is the policy that all start from."""

    figures: dict[str, dict[int, dict[int, float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))


def arms_of(artifacts: Sequence[ReportArtifact]) -> dict[str, Arm]:
    """The two arms of `mathquarry compare RECIPE rewards`; none in other runs. A shared first iteration is in both."""
    arms: dict[str, Arm] = {}
    for artifact in artifacts:
        match = _NAME.fullmatch(artifact.name)
        if not match:
            continue
        seed, iteration = int(match[2]), int(match[3])
        for name in (REFRESHED, FROZEN) if match[1] == BOTH else (match[1],):
            figures = arms.setdefault(name, Arm()).figures
            if artifact.stage == "evaluate":
                for figure, score in read_scores(artifact.summary).columns().items():
                    figures[figure][iteration][seed] = score.value
            elif values := series(artifact.metrics(), "reward_auc")[1]:
                figures[AUC][iteration][seed] = sum(values) / len(values)
    return arms


def iteration_section(artifacts: Sequence[ReportArtifact]) -> Section | None:
    """Scores and the reward model's AUC by iteration for both arms, their differences seed by seed, and what each refresh did."""
    arms = arms_of(artifacts)
    if not arms:
        return None
    start = next((read_scores(artifact.summary) for artifact in artifacts if artifact.name == "evaluate-sft"), None)
    for arm in arms.values():
        for figure, score in start.columns().items() if start else ():
            arm.figures[figure][0] = dict.fromkeys(arm.figures[figure][1], score.value)
    seeds = max(len(values) for arm in arms.values() for by_iteration in arm.figures.values() for values in by_iteration.values())
    source = _source(_named(artifacts))
    blocks: list[Block] = [_table(arms, source), *_curves(arms, source), _differences(arms, source), *_refreshes(artifacts)]
    return Section(
        "iterations",
        "Refreshed and frozen reward model",
        "Iterations of GRPO from one fine-tuned policy, the first shared; from the second on, the reward model is trained further on the "
        f"newest policy's outputs with replay, or stays as it was. Means over {seeds} seed{'s' if seeds > 1 else ''}; ± and error bars are "
        "one standard error over seeds. AUC: how well the reward model tells right from wrong among the outputs that the policy learns "
        "from, by the answer checker; the mean of an iteration's steps.",
        blocks,
    )


def _named(artifacts: Sequence[ReportArtifact]) -> Named:
    """Artifacts by arm and iteration, for queries."""
    named = []
    for artifact in artifacts:
        if match := _NAME.fullmatch(artifact.name):
            named += [(f"{arm} {match[3]}", artifact) for arm in ((REFRESHED, FROZEN) if match[1] == BOTH else (match[1],))]
        elif artifact.name == "evaluate-sft":
            named += [(f"{arm} 0", artifact) for arm in (REFRESHED, FROZEN)]
    return named


_MEAN = "count(*) as seeds, avg({0}) as mean, coalesce(stddev_samp({0}) / sqrt(count(*)), 0) as error"


def _source(named: Named) -> Source:
    """Means and standard errors over the seeds of each arm and iteration."""
    figures = [name for _, artifact in named for name in artifact.summary if name == "greedy" or AT_K.fullmatch(name)]
    query = (
        f"select name, f.key as figure, {_MEAN.format('f.value::double')}\n"
        f"from {names_table(named)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(figures)} group by all\n"
        f"union all select name, '{AUC}', {_MEAN.format('auc')} from (\n"
        f"select names.name, key, avg(value) as auc from {names_table(named)} join metrics using (key)\n"
        "where metrics.name = 'reward_auc' group by all) group by all order by all"
    )
    return Source.of((artifact for _, artifact in named), query)


def _spread(values: Mapping[int, float]) -> Spread:
    return Spread.of(list(values.values()))


def _show(figure: str, spread: Spread) -> str:
    if figure != AUC:
        return str(spread)
    return f"{spread.mean:.3f} ± {spread.error:.3f}" if spread.seeds > 1 else f"{spread.mean:.3f}"


def _table(arms: Mapping[str, Arm], source: Source) -> Table:
    figures = list(dict.fromkeys(figure for arm in arms.values() for figure in arm.figures))
    rows = []
    for name, arm in arms.items():
        for iteration in sorted({iteration for by_iteration in arm.figures.values() for iteration in by_iteration}):
            shown = [_show(f, _spread(arm.figures[f][iteration])) if iteration in arm.figures[f] else "–" for f in figures]
            seeds = max(len(arm.figures[figure].get(iteration, {})) for figure in figures)
            rows.append([name, count(iteration), count(seeds), *shown])
    return Table(["Reward model", "After iteration", "Seeds", *figures], rows, frozenset(range(1, len(figures) + 3)), source=source)


def _curves(arms: Mapping[str, Arm], source: Source) -> list[Block]:
    notes = {"Greedy": "Held-out questions; iteration 0 is the fine-tuned policy.", AUC: "On the outputs that the policy learned from."}
    blocks: list[Block] = []
    for figure, note in notes.items():
        drawn = []
        for name, arm in arms.items():
            spreads = {iteration: _spread(values) for iteration, values in sorted(arm.figures[figure].items()) if values}
            means, errors = [spread.mean for spread in spreads.values()], [spread.error for spread in spreads.values()]
            drawn.append(Line(name, list(spreads), means, errors=errors))
        if all(curve.x for curve in drawn):
            spec = lines(drawn, "iteration", y_format=".3f" if figure == AUC else ".0%", points=True)
            spec["layout"]["xaxis"]["dtick"] = 1
            spec["layout"]["yaxis"]["rangemode"] = "normal"  # the arms are close: from zero they would be one line
            title = "Greedy accuracy by iteration" if figure == "Greedy" else "Reward model's AUC by iteration"
            note += " Error bars: one standard error. The axis does not begin at zero."
            blocks.append(Chart(title, spec, note, source=source))
    return blocks


def _differences(arms: Mapping[str, Arm], source: Source) -> Table:
    rows = []
    refreshed, frozen = (arms[name].figures if name in arms else {} for name in (REFRESHED, FROZEN))
    for figure, by_iteration in refreshed.items():
        for iteration, values in sorted(by_iteration.items()):
            other = frozen.get(figure, {}).get(iteration, {})
            shared = sorted(set(values) & set(other))
            if iteration < 2 or not shared:
                continue
            spread = Spread.of([values[seed] - other[seed] for seed in shared])
            scale = 1 if figure == AUC else 100
            text = f"{scale * spread.mean:+.{3 if figure == AUC else 1}f} ± {scale * spread.error:.{3 if figure == AUC else 1}f}"
            rows.append([figure, count(iteration), text + ("" if figure == AUC else " points"), _verdict(spread)])
    headers = ["Figure", "After iteration", "Refreshed less frozen", f"Verdict ({CLEAR:g} standard errors)"]
    return Table(headers, rows, frozenset({1, 2}), title="Differences, seed by seed", source=source)


def _verdict(spread: Spread) -> str:
    if spread.seeds == 1:
        return "one seed: cannot say"
    if abs(spread.mean) < CLEAR * spread.error or spread.mean == 0:
        return "within noise"
    return "refreshed is better" if spread.mean > 0 else "frozen is better"


def _refreshes(artifacts: Sequence[ReportArtifact]) -> list[Block]:
    """AUC of the reward model on held-out questions with the newest policy's solutions, before and after each refresh."""
    found: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    figures_of_training = ("before_auc", "auc", "auc_within_question")
    named = []
    for artifact in artifacts:
        if match := _REWARD.fullmatch(artifact.name):
            named.append((_training(int(match[2])), artifact))
            for name in figures_of_training:
                value = number(artifact.summary, name)
                if value is not None:
                    found[int(match[2])][name][int(match[1])] = value
    if not found:
        return []
    rows = [
        [
            _training(iteration),
            count(max(map(len, figures.values()))),
            *(_show(AUC, _spread(figures[name])) if figures[name] else "–" for name in figures_of_training),
        ]
        for iteration, figures in sorted(found.items())
    ]
    headers = ["Training", "Seeds", "AUC before", "AUC after", "AUC after, within a question"]
    title = "The refreshed model on held-out questions, answered by the newest policy"
    query = (
        f"select name, f.key as figure, {_MEAN.format('f.value::double')}\n"
        f"from {names_table(named)} join artifacts using (key), json_each(summary) as f\n"
        f"where f.key in {strings(figures_of_training)} group by all order by all"
    )
    source = Source.of((artifact for _, artifact in named), query)
    return [Table(headers, rows, frozenset({1, 2, 3, 4}), title=title, source=source)]


def _training(iteration: int) -> str:
    return f"after iteration {iteration}" if iteration else "first training"
