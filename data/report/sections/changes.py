"""Changes between consecutive policies: the effect of each training stage on the scores, paired by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Table, count
from mathquarry.data.report.page.noise import CHANCE, CLEAR
from mathquarry.data.report.page.scores import Score
from mathquarry.data.report.sections.paired import Difference, Evaluation, Pair, differences, differences_source, evaluations_by_label
from mathquarry.data.report.sections.policies import evaluations, step_pairs

TITLE = "Changes from policy to policy"


@dataclass(frozen=True)
class Change:
    """The differences in scores between a policy and an earlier one. `found` has a difference for each score that both have."""

    before: str
    after: str
    one: Evaluation
    other: Evaluation
    found: dict[str, Difference]

    @property
    def greedy(self) -> Difference:
        """Difference of greedy accuracy."""
        return self.found["Greedy"]

    @property
    def asked(self) -> int | None:
        """Number of questions for greedy accuracy."""
        return self.greedy.questions or self.other.scores.questions

    @property
    def verdict(self) -> str:
        """Whether greedy accuracy rose, fell, or changed within noise."""
        if self.greedy.error is None and self.greedy.gained is None:
            return "error unknown"
        return ("rose" if self.greedy.value > 0 else "fell") if self.greedy.clear else "within noise"

    @property
    def pair(self) -> Pair:
        """The pair of evaluations for the query."""
        return Pair(self.after, f"{self.after}−{self.before}", self.one, self.other)


def policy_changes(artifacts: Sequence[ReportArtifact]) -> list[Change]:
    """Compare each evaluated policy with the previous one; and the last one with the start of RL, if there are several iterations."""
    found = evaluations_by_label(artifacts)
    labels = list(dict.fromkeys(label for label, _ in evaluations(artifacts)))
    return [Change(one, other, found[one], found[other], differences(found[one], found[other])) for one, other in step_pairs(labels)]


def change_table(changes: Sequence[Change]) -> Table | None:
    """Return a table with a row per change. The findings use its numbers."""
    if not changes:
        return None
    others = [name for name in _shown(changes) if name != "Greedy"]
    rows = [
        [
            change.before,
            change.after,
            count(change.asked),
            change.greedy.points,
            count(change.greedy.gained),
            count(change.greedy.lost),
            change.verdict,
            *(change.found[name].points if name in change.found else "–" for name in others),
        ]
        for change in changes
    ]
    note = (
        "In points, ± one standard error. Greedy and Pass@K are paired by question; Maj@K is treated as independent, which overestimates "
        "its error. Gained: questions that only the later policy answers correctly; lost: only the earlier. A change is more than noise "
        f"if it is at least {CLEAR:g} standard errors and an exact sign test of gained and lost answers is significant (p < {CHANCE:g}): "
        "without a real change, this happens less than once in twenty."
    )
    headers = ["From", "To", "Questions", "Greedy", "Gained", "Lost", "Greedy is", *others]
    numeric = frozenset(range(2, len(headers))) - {6}
    source = differences_source([change.pair for change in changes])
    return Table(headers, rows, numeric, TITLE, note=note, source=source)


def _shown(changes: Sequence[Change]) -> dict[str, Score]:
    """Return the scores in the table of policies, by name."""
    return {name: score for change in changes for name, score in change.other.scores.columns().items()}
