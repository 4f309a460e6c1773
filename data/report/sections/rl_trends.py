"""The effect of each iteration of reinforcement learning on the metrics of its steps: reward and true accuracy, and signs of problems.

A trend is a straight line through all steps. Single steps have different questions, so the first and last step alone say little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage, series
from mathquarry.data.report.page.blocks import Table, count, percent, rounded
from mathquarry.data.report.page.noise import CHANCE, CLEAR, Trend
from mathquarry.data.report.page.source import Source, names_table
from mathquarry.data.report.sections.policies import in_prose

TITLE = "Trends within iterations"
AT_ENDS = 0.25
"""Share of an iteration's steps that count as its beginning or its end."""

_AVERAGED = ("entropy", "kl", "truncated_share", "groups_mixed")


@dataclass(frozen=True)
class Iteration:
    """One iteration, by its artifact."""

    artifact: ReportArtifact

    @property
    def name(self) -> str:
        """Name in sentences."""
        return in_prose(self.label)

    @property
    def label(self) -> str:
        """Label in tables, the same as that of the policy it made."""
        return f"RL {self.artifact.iteration}" if self.artifact.iteration else self.artifact.name

    @property
    def scored_by_model(self) -> bool:
        """Whether a reward model scored the completions, alone or with other rewards: the paper's method, and the default."""
        grpo = self.artifact.config.get("grpo") or {}
        if rewards := grpo.get("rewards"):
            return any(reward.get("kind") == "model" for reward in rewards)
        return bool((grpo.get("paradigm") or {}).get("reward", "model") == "model")

    @cached_property
    def _records(self) -> list[dict]:
        return self.artifact.metrics()

    def values(self, metric: str) -> list[float]:
        """Return a metric at every step where it is a number."""
        return [value for value in series(self._records, metric)[1] if math.isfinite(value)]

    def trend(self, metric: str) -> Trend | None:
        """Fit a line through a metric's steps."""
        return Trend.of(*series(self._records, metric))

    def early(self, metric: str) -> float | None:
        """Return the mean over the first steps."""
        return _mean(self.values(metric), from_end=False)

    def late(self, metric: str) -> float | None:
        """Return the mean over the last steps."""
        return _mean(self.values(metric), from_end=True)


def iterations_of(artifacts: Sequence[ReportArtifact]) -> list[Iteration]:
    """Return the iterations with metrics, in the order of the run."""
    found = [Iteration(artifact) for artifact in of_stage(artifacts, "grpo")]
    return [iteration for iteration in found if iteration.values("accuracy") or iteration.values("reward")]


def trend_table(iterations: Sequence[Iteration]) -> Table | None:
    """Return a table with a row per iteration."""
    if not iterations:
        return None
    rows = [
        [
            iteration.label,
            count(len(iteration.values("reward"))),
            *_ends(iteration.trend("reward")),
            *_ends(iteration.trend("accuracy")),
            rounded(iteration.late("entropy")),
            rounded(iteration.late("kl")),
            percent(iteration.late("truncated_share")),
            percent(iteration.late("groups_mixed")),
        ]
        for iteration in iterations
    ]
    headers = [
        "Iteration",
        "Steps",
        "Reward",
        "Reward, change",
        "Correct completions",
        "Correct completions, change",
        "Entropy at the end",
        "KL at the end",
        "Truncated at the end",
        "Mixed groups at the end",
    ]
    note = (
        "Reward and correct completions (the share of sampled ones, according to the answer checker): from the first step to the last, "
        f"along a straight line through all steps, ± one standard error. A change is a rise or fall only from {CLEAR:g} standard errors "
        f"on, if a t-test is significant too (p < {CHANCE:g}). At the end: means of the last quarter of the steps. If the reward rises "
        "while correct completions or held-out accuracy fall, the reward model is exploited."
    )
    return Table(headers, rows, frozenset(range(1, len(headers))), TITLE, note=note, source=_source(iterations))


def _ends(trend: Trend | None) -> list[str]:
    if trend is None:
        return ["–", "–"]
    return [f"{trend.first:.3f} to {trend.last:.3f}", moved(trend)]


def moved(trend: Trend) -> str:
    """Format a trend's change with sign and standard error."""
    return f"{trend.change:+.3f}" + ("" if trend.error is None else f" ± {trend.error:.3f}")


def _mean(values: Sequence[float], from_end: bool) -> float | None:
    if not values:
        return None
    size = ends(len(values))
    chosen = values[-size:] if from_end else values[:size]
    return sum(chosen) / len(chosen)


def ends(steps: int) -> int:
    """Return how many steps count as the first ones, and as the last ones: at least one."""
    return max(1, int(AT_ENDS * steps))


def _source(iterations: Sequence[Iteration]) -> Source:
    """Return the query for the lines' ends and errors by least squares, and the means of the last steps."""
    named = [(iteration.label, iteration.artifact) for iteration in iterations]
    averaged = ", ".join(f"'{name}'" for name in _AVERAGED)
    query = (
        "with steps as (select names.name, metrics.name as metric, step::double as step, value, metrics.key,\n"
        "row_number() over (partition by metrics.key, metrics.name order by step desc) as from_end,\n"
        "count(*) over (partition by metrics.key, metrics.name) as steps\n"
        f"from {names_table(named)} join metrics using (key) where isfinite(value))\n"
        "select name, metric, count(*) as steps, regr_intercept(value, step) + regr_slope(value, step) * min(step) as first,\n"
        "regr_intercept(value, step) + regr_slope(value, step) * max(step) as last, last - first as change,\n"
        "(max(step) - min(step)) * sqrt(greatest(0, regr_syy(value, step) - regr_slope(value, step) * regr_sxy(value, step))\n"
        "/ nullif(count(*) - 2, 0) / regr_sxx(value, step)) as error, null as at_the_end\n"
        "from steps where metric in ('reward', 'accuracy') group by all\n"
        "union all select name, metric, any_value(steps), null, null, null, null, avg(value)\n"
        f"from steps where metric in ({averaged}) and from_end <= greatest(1, floor({AT_ENDS:g} * steps)) group by all order by all"
    )
    return Source.of((iteration.artifact for iteration in iterations), query)
