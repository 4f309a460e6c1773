"""Statistics over runs of one recipe that differ only in seeds: means and spread.

± is one standard error over seeds. A change is more than noise if a t-test over seeds is significant; the spread includes the sampling of
questions. Each seed counts once, however many questions it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.noise import seeds_agree
from mathquarry.data.report.page.opening import Link, Opening, Sentence
from mathquarry.data.report.page.scores import read_scores
from mathquarry.data.report.runs.run_differences import ComparedRun, config_differences
from mathquarry.data.report.sections.changes import policy_changes
from mathquarry.data.report.sections.comparison import Spread
from mathquarry.data.report.sections.findings import exploited
from mathquarry.data.report.sections.policies import evaluations, in_prose, rl_number
from mathquarry.data.report.sections.rl_trends import iterations_of
from mathquarry.data.report.sections.run_warnings import run_warnings

CHANGES, SCORES, EVERY = "Changes over seeds", "Scores over seeds", "Every seed"
MOST_WARNINGS = 6
FEW_SEEDS = 5


@dataclass(frozen=True)
class SeedRun:
    """One run with its seed, and the scores of its policies by metric and label."""

    seed: str
    run: ComparedRun
    policies: dict[str, ReportArtifact]
    scores: dict[str, dict[str, float]]

    def change(self, metric: str, before: str, after: str) -> float | None:
        """Return the change of a score between two policies; None if one has no score."""
        found = self.scores.get(metric, {})
        return found[after] - found[before] if before in found and after in found else None


def are_seeds(configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the resolved recipes differ only in seeds, and all of them differ."""
    apart = config_differences(configs)
    own = set(zip(*(values for _, values in apart), strict=True))
    return len(own) == len(configs) and all(name.rpartition(".")[2] == "seed" for name, _ in apart)


def read_seeds(runs: Sequence[ComparedRun]) -> list[SeedRun]:
    """Return the runs ordered by seed."""
    found = []
    for run in runs:
        policies = dict(evaluations(run.artifacts))
        scores: dict[str, dict[str, float]] = {}
        for label, artifact in policies.items():
            for metric, score in read_scores(artifact.summary).columns().items():
                scores.setdefault(metric, {})[label] = score.value
        seed = run.record.get("config", {}).get("seed")
        found.append(SeedRun(run.letter if seed is None else str(seed), run, policies, scores))
    return sorted(found, key=lambda one: (not one.seed.isdecimal(), int(one.seed) if one.seed.isdecimal() else 0, one.seed))


def seeds_opening(seeds: Sequence[SeedRun]) -> Opening:
    """Summarise what the seeds have in common, and where they disagree."""
    labels = list(dict.fromkeys(label for one in seeds for label in one.policies))
    trained = [label for label in labels if rl_number(label) is not None]
    told = []
    if trained and labels.index(trained[0]):
        start = labels[labels.index(trained[0]) - 1]
        told.append(_told_change(seeds, start, trained[-1], f"From {start} to {in_prose(trained[-1])}, greedy accuracy"))
        if len(trained) > 1:
            told.append(
                _told_change(seeds, trained[-2], trained[-1], f"From {in_prose(trained[-2])} to {trained[-1][3:]}, greedy accuracy")
            )
    if len(labels) > 1:
        told.append(_told_order(seeds, labels))
    return Opening(_warnings(seeds), [sentence for sentence in told if sentence])


def _told_change(seeds: Sequence[SeedRun], before: str, after: str, subject: str) -> Sentence | None:
    found = differences_over(seeds, "Greedy", before, after)
    if not found:
        return None
    spread, up, down = Spread.of(found), sum(value > 0 for value in found), sum(value < 0 for value in found)
    said = f"{subject} {_moved(found)}: up in {up} of {len(found)} seeds, down in {down}"
    worst = exploited_in(seeds, after)
    if worst:
        said += f"; the reward model was exploited in {_seeds(worst).lower()}"
    return Sentence(said + ".", (Link("seeds", CHANGES), Link("seeds", EVERY))) if spread.seeds else None


def _moved(found: Sequence[float]) -> str:
    """Describe the change of a score over seeds. It is called a rise or fall only if it is more than noise."""
    if not seeds_agree(found):
        return f"did not change beyond noise ({points_over(found)} points over seeds)"
    return f"{'rose' if sum(found) > 0 else 'fell'} by {points_over(found)[1:]} points over seeds"


def _told_order(seeds: Sequence[SeedRun], labels: Sequence[str]) -> Sentence:
    metrics = ["Greedy", *(metric for metric in majorities_of(seeds) if all(metric in one.scores for one in seeds))]
    greedy, *majorities = (f"{sum(in_order(one, metric, labels) for one in seeds)} of {len(seeds)}" for metric in metrics)
    text = f"Greedy accuracy rises at every step ({', '.join(labels)}) in {greedy} seeds"
    text += "".join(f", {metric} in {counted}" for metric, counted in zip(metrics[1:], majorities, strict=True))
    return Sentence(f"{text}.", (Link("seeds", EVERY),))


def in_order(one: SeedRun, metric: str, labels: Sequence[str]) -> bool:
    """Whether a score rises from each policy to the next."""
    return all((change := one.change(metric, before, after)) is not None and change > 0 for before, after in pairwise(labels))


def exploited_in(seeds: Sequence[SeedRun], label: str) -> list[str]:
    """Return the seeds in which the iteration that made a policy exploited its reward model."""
    found = []
    for one in seeds:
        iterations = {iteration.label: iteration for iteration in iterations_of(one.run.artifacts)}
        for change in policy_changes(one.run.artifacts):
            if change.after == label:
                if exploited(change, iterations.get(label)):
                    found.append(one.seed)
                break
    return found


def _warnings(seeds: Sequence[SeedRun]) -> list[Sentence]:
    given = []
    if len(seeds) < FEW_SEEDS:
        given.append(Sentence(f"{len(seeds)} seeds are few, so their spread is uncertain.", (Link("seeds", SCORES),)))
    by_text: dict[str, list[str]] = {}
    for one in seeds:
        for sentence in run_warnings(one.run.record, one.run.artifacts):
            by_text.setdefault(sentence.text, []).append(one.seed)
    own = [f"{_seeds(those)}: {text}" for text, those in by_text.items()]
    given += [Sentence(text) for text in own[:MOST_WARNINGS]]
    if len(own) > MOST_WARNINGS:
        given.append(Sentence(f"{len(own) - MOST_WARNINGS} more warnings are in the reports of the single runs."))
    return given


def _seeds(those: Sequence[str]) -> str:
    return f"Seed{'s' if len(those) > 1 else ''} {', '.join(those)}"


def majorities_of(seeds: Sequence[SeedRun]) -> list[str]:
    """Return the names of Maj@K at the largest K."""
    return [metric for metric in metrics_of(seeds) if metric.startswith("Maj@")]


def metrics_of(seeds: Sequence[SeedRun]) -> list[str]:
    """Return the names of the scores in tables."""
    return list(dict.fromkeys(metric for one in seeds for metric in one.scores))


def differences_over(seeds: Sequence[SeedRun], metric: str, before: str, after: str) -> list[float]:
    """Return each seed's change of a score between two policies."""
    return [change for one in seeds if (change := one.change(metric, before, after)) is not None]


def points_over(found: Sequence[float]) -> str:
    """Format the mean of changes in points, with its standard error over seeds."""
    spread = Spread.of(found)
    return f"{100 * spread.mean:+.1f}" + (f" ± {100 * spread.error:.1f}" if spread.seeds > 1 else "")
