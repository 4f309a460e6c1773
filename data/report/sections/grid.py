"""A comparison of credit assignments, rewards, and refreshed or frozen reward models: arms, and their scores by iteration.

An arm is a credit assignment, a reward, and a reward model that is refreshed between iterations or frozen. Names of artifacts say what they
belong to: `grpo-step-sum+process+refreshed-0-2` is seed 0, iteration 2. The first iteration is shared by the refreshed and the frozen arm,
named `shared`. The reward `rule` has no reward model, and only an arm `shared`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mathquarry.data.report.page.artifact import ReportArtifact, series
from mathquarry.data.report.page.scores import read_scores

SHARED, REFRESHED, FROZEN = "shared", "refreshed", "frozen"
CREDITS = {"outcome": "outcome", "step-sum": "sum of steps", "step-min": "minimum of steps"}
"""How steps get credit: all tokens get the completion's reward (4.1.2), each step gets the sum of the step rewards from it on (4.1.3), or
their minimum (PURE, arXiv 2504.15275)."""
REWARDS = {"rule": "rule", "outcome": "outcome model", "process": "process model", "mixed": "process model and rule"}
AUC, SECONDS = "AUC", "Seconds"
START = "evaluate-sft"

_NAME = re.compile(rf"(grpo|evaluate|reward)-({'|'.join(CREDITS)})\+({'|'.join(REWARDS)})\+({SHARED}|{REFRESHED}|{FROZEN})-(\d+)-(\d+)")

By = dict[int, dict[int, float]]
"""Iteration -> seed -> value."""


class ArmKey(NamedTuple):
    """The choices of an arm. `model` is refreshed, frozen, or shared if there is no reward model."""

    credit: str
    reward: str
    model: str

    @property
    def words(self) -> str:
        """Label in tables and legends."""
        model = "" if self.model == SHARED else f", {self.model}"
        return f"{CREDITS[self.credit]}, {REWARDS[self.reward]}{model}"


class Place(NamedTuple):
    """The arm, seed and iteration that an artifact's name says it belongs to."""

    stage: str
    arm: ArmKey
    seed: int
    iteration: int


@dataclass
class GridArm:
    """An arm's metrics: "Greedy", "Maj@8", ... after an iteration (0 is the start), AUC on its rollouts, and its cost."""

    metrics: dict[str, By] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    artifacts: list[tuple[Place, ReportArtifact]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last scored iteration."""
        return max((iteration for iteration, values in self.metrics["Greedy"].items() if values), default=0)


def name_of(stage: str, arm: ArmKey, seed: int, iteration: int) -> str:
    """Return the name of an arm's artifact in its run."""
    return f"{stage}-{arm.credit}+{arm.reward}+{arm.model}-{seed}-{iteration}"


def place_of(artifact: ReportArtifact) -> Place | None:
    """Parse an artifact's name; None if it is not part of such a comparison."""
    match = _NAME.fullmatch(artifact.name)
    return Place(match[1], ArmKey(match[2], match[3], match[4]), int(match[5]), int(match[6])) if match else None


def grid_of(artifacts: Sequence[ReportArtifact]) -> dict[ArmKey, GridArm]:
    """Return the arms in the order of `CREDITS` and `REWARDS`; none in other runs. Shared artifacts are in each of their arms."""
    placed = [(place, artifact) for artifact in artifacts if (place := place_of(artifact))]
    known = {place.arm for place, _ in placed}
    arms: dict[ArmKey, GridArm] = {}
    for place, artifact in placed:
        for key in _owners(place.arm, known):
            _add(arms.setdefault(key, GridArm()), place, artifact)
    start = next((artifact for artifact in artifacts if artifact.name == START), None)
    if start is not None:
        for arm in arms.values():
            for metric, score in read_scores(start.summary).columns().items():
                arm.metrics[metric][0] = dict.fromkeys(arm.metrics["Greedy"].get(1, {}), score.value)
    order = (list(CREDITS), list(REWARDS), [SHARED, REFRESHED, FROZEN])
    return dict(sorted(arms.items(), key=lambda item: tuple(names.index(part) for names, part in zip(order, item[0], strict=True))))


def _owners(arm: ArmKey, known: set[ArmKey]) -> list[ArmKey]:
    """Return the arms that an artifact belongs to: for a shared one, those with the same credit and reward that continue from it."""
    if arm.model != SHARED:
        return [arm]
    going_on = [other for model in (REFRESHED, FROZEN) if (other := arm._replace(model=model)) in known]
    return going_on or [arm]


def _add(arm: GridArm, place: Place, artifact: ReportArtifact) -> None:
    arm.artifacts.append((place, artifact))
    seconds = arm.metrics[SECONDS][place.iteration]
    seconds[place.seed] = seconds.get(place.seed, 0.0) + artifact.seconds
    if place.stage == "evaluate":
        for metric, score in read_scores(artifact.summary).columns().items():
            arm.metrics[metric][place.iteration][place.seed] = score.value
    elif place.stage == "grpo" and place.arm.reward != "rule" and (values := series(artifact.metrics(), "reward_auc")[1]):
        arm.metrics[AUC][place.iteration][place.seed] = sum(values) / len(values)
