"""Orderings between the arms of a comparison of credit, reward and refresh, paired by seed, and whether they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mathquarry.data.report.page.noise import seeds_agree
from mathquarry.data.report.page.scores import AT_K
from mathquarry.data.report.sections.comparison import Spread
from mathquarry.data.report.sections.grid import AUC, FROZEN, REFRESHED, SHARED, ArmKey, By, GridArm

GREEDY = "Greedy"
REFRESH = ("a refreshed reward model is better than a frozen one", "4.1.4")
SEPARATES = ("a refreshed reward model separates correct from wrong answers better than a frozen one (AUC)", "4.1.4")
LATER = ("the last iteration is better than the first", "4.1.4, Figure 6")
STEPS = ("step rewards are better than the completion's reward", "4.1.3, Figure 5")
PROCESS = ("a process reward model is better than an outcome reward model", "4.1.3, Figure 5")
MAJORITY = ("Maj@K rises more than Pass@K", "Figure 7")
MINIMUM = ("the minimum of the step rewards is better than their sum", "PURE, arXiv 2504.15275")
LEARNED = ("a learned reward is better than the rule", "none")
MIXED = ("adding some of the rule is better than the process model alone", "none")
PAPER = [text for text, _ in (REFRESH, SEPARATES, LATER, STEPS, PROCESS, MAJORITY)]
ORDER = [*PAPER, *(text for text, _ in (MINIMUM, LEARNED, MIXED))]
VERDICTS = ("holds", "does not hold", "within noise", "only one seed")


class Point(NamedTuple):
    """What is compared: a metric of an arm after an iteration, or its change since the start."""

    arm: ArmKey
    metric: str
    iteration: int
    since_start: bool = False

    @property
    def words(self) -> str:
        """Label in a table."""
        when = "in" if self.metric == AUC else "after"
        return f"{self.arm.words}: {'rise of ' if self.since_start else ''}{self.metric} {when} iteration {self.iteration}"


@dataclass(frozen=True)
class Claim:
    """An ordering of two points, paired by seed."""

    text: str
    source: str
    """Source of the ordering."""
    better: Point
    worse: Point
    differences: tuple[float, ...]

    @property
    def in_paper(self) -> bool:
        """Whether the ordering is one of the paper's."""
        return self.text in PAPER

    @property
    def verdict(self) -> str:
        """Whether it holds, does not hold, or is within noise, by a t-test over seeds."""
        holds, does_not, noise, one_seed = VERDICTS
        if len(self.differences) == 1:
            return one_seed
        if not seeds_agree(self.differences):
            return noise
        return holds if sum(self.differences) > 0 else does_not

    @property
    def points(self) -> str:
        """Return the mean difference with its standard error over seeds."""
        spread = Spread.of(self.differences)
        return f"{100 * spread.mean:+.1f}" + (f" ± {100 * spread.error:.1f}" if spread.seeds > 1 else "")


def claims_of(arms: Mapping[ArmKey, GridArm]) -> list[Claim]:
    """Return the paper's orderings (sections 4.1.3 and 4.1.4, Figures 5 to 7) and those of other papers.

    Arms are compared if they differ in one choice, by greedy accuracy after their last common iteration, or by AUC in it. Each arm is also
    compared with its own first iteration, and the rise of Maj@K with that of Pass@K for the largest K.
    """
    found = []
    for (text, source), better, worse in _pairs(arms):
        metric = AUC if text == SEPARATES[0] else GREEDY
        ours, theirs = arms[better].metrics.get(metric, {}), arms[worse].metrics.get(metric, {})
        both = [iteration for iteration in ours if iteration and set(ours[iteration]) & set(theirs.get(iteration, {}))]
        if both:
            found.append(_claim(arms, text, source, Point(better, metric, max(both)), Point(worse, metric, max(both))))
    for key, arm in arms.items():
        if arm.last > 1:
            found.append(_claim(arms, *LATER, Point(key, GREEDY, arm.last), Point(key, GREEDY, 1)))
        largest = max((int(match[2]) for name in arm.metrics if (match := AT_K.fullmatch(name.lower()))), default=1)
        names = f"Maj@{largest}", f"Pass@{largest}"
        if largest > 1 and all(arm.metrics.get(name, {}).get(0) and arm.metrics[name].get(arm.last) for name in names):
            found.append(_claim(arms, *MAJORITY, *(Point(key, name, arm.last, since_start=True) for name in names)))
    place = {key: number for number, key in enumerate(arms)}
    told = [claim for claim in found if claim.differences]
    return sorted(told, key=lambda claim: (ORDER.index(claim.text), place[claim.better.arm]))


def verdicts_of(claims: Sequence[Claim]) -> dict[str, int]:
    """Return how many of the claims have each verdict, without verdicts that none has."""
    counts = Counter(claim.verdict for claim in claims)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def _pairs(arms: Mapping[ArmKey, GridArm]) -> Iterator[tuple[tuple[str, str], ArmKey, ArmKey]]:
    """Yield the text and source of an ordering, and two arms that differ in one choice: the better one first."""
    for key in arms:
        pairs = [
            (key.model == REFRESHED, REFRESH, key._replace(model=FROZEN)),
            # The AUC of a reward that contains the rule says nothing about the model.
            (key.model == REFRESHED and key.reward != "mixed", SEPARATES, key._replace(model=FROZEN)),
            (key.credit == "step-sum", STEPS, key._replace(credit="outcome")),
            (key.credit == "step-min", MINIMUM, key._replace(credit="step-sum")),
            (key.reward == "process", PROCESS, key._replace(reward="outcome")),
            (key.reward == "mixed", MIXED, key._replace(reward="process")),
            (key.credit == "outcome" and key.model == REFRESHED, LEARNED, ArmKey("outcome", "rule", SHARED)),
        ]
        yield from ((claim, key, worse) for wanted, claim, worse in pairs if wanted and worse in arms)


def _claim(arms: Mapping[ArmKey, GridArm], text: str, source: str, better: Point, worse: Point) -> Claim:
    ours, theirs = _values(arms, better), _values(arms, worse)
    seeds = sorted(set(ours) & set(theirs))
    return Claim(text, source, better, worse, tuple(ours[seed] - theirs[seed] for seed in seeds))


def _values(arms: Mapping[ArmKey, GridArm], point: Point) -> dict[int, float]:
    """Return the value of a point for each seed."""
    values: By = arms[point.arm].metrics[point.metric]
    after = values[point.iteration]
    return {seed: value - values[0][seed] for seed, value in after.items() if seed in values[0]} if point.since_start else after
