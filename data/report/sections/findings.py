"""Describes what happened in a run, in at most three rule-based sentences. Problems come before good news.

A sentence says that something rose or fell only if the change is more than noise (`noise.py`). Its numbers are those of the linked tables.
"The reward model was exploited" needs two clear changes: a reward that rose within the iteration, and held-out accuracy or the share of
correct completions that fell.
"""

from __future__ import annotations

from collections.abc import Sequence

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage
from mathquarry.data.report.page.blocks import count, number, short
from mathquarry.data.report.page.noise import Trend
from mathquarry.data.report.page.opening import Link, Sentence
from mathquarry.data.report.page.scores import Scores, read_scores
from mathquarry.data.report.sections.changes import TITLE as CHANGED
from mathquarry.data.report.sections.changes import Change, policy_changes
from mathquarry.data.report.sections.paired import Difference
from mathquarry.data.report.sections.policies import evaluations, in_prose, policy_in_prose, rl_number
from mathquarry.data.report.sections.rl_trends import TITLE as TRENDED
from mathquarry.data.report.sections.rl_trends import Iteration, iterations_of, moved

MOST = 3
CHANGES = Link("accuracy", CHANGED)
TRENDS = Link("rl", TRENDED)
REWARD = Link("rl", "Reward and true accuracy")


def findings(artifacts: Sequence[ReportArtifact]) -> list[Sentence]:
    """Return two or three sentences about the run, or fewer if it did little; none if nothing was mined or evaluated."""
    changed = policy_changes(artifacts)
    steps = {change.after: change for change in changed if change is not _whole(changed)}
    iterations = {iteration.label: iteration for iteration in iterations_of(artifacts)}
    told: list[Sentence] = []
    if whole := _whole(changed):
        told.append(_change_sentence(whole, f"From {whole.before} to {in_prose(whole.after)},"))
    trained = [label for label in steps if rl_number(label) is not None]
    bad = [label for label in trained if _went_wrong(steps[label], iterations.get(label))]
    chosen = (bad or trained[-1:])[-(MOST - len(told)) :]
    told += [_iteration_sentence(steps[label], iterations.get(label)) for label in chosen]
    if not trained and steps:
        told.append(_change_sentence(list(steps.values())[-1], in_prose(list(steps)[-1]).capitalize()))
    if len(told) < MOST and trained and (sampled := _samples_sentence(whole or steps[trained[-1]])):
        told.append(sampled)
    if not told:
        told += _only_score(artifacts)
    if len(told) < MOST - 1:
        told += _mined(artifacts)
    return told


def exploited(change: Change, iteration: Iteration | None) -> bool:
    """Whether the reward model's score clearly rose within the iteration while accuracy clearly fell."""
    if iteration is None or not iteration.scored_by_model:
        return False
    reward, right = iteration.trend("reward"), iteration.trend("accuracy")
    learned = right.change if right is not None and right.clear else 0.0
    worse = learned < 0 or (
        _fell(change.greedy) and learned == 0.0
    )  # if the share of correct completions rose, the policy learned the training questions
    return reward is not None and reward.clear and reward.change > 0 and worse


def _whole(changed: Sequence[Change]) -> Change | None:
    """Return the change from the start of RL to its last iteration, if there are several."""
    last = changed[-1] if len(changed) > 1 else None
    return last if last and any(last.after == other.after for other in changed[:-1]) else None


def _fell(difference: Difference) -> bool:
    return difference.clear and difference.value < 0


def _went_wrong(change: Change, iteration: Iteration | None) -> bool:
    return _fell(change.greedy) or exploited(change, iteration)


def _change_sentence(change: Change, subject: str) -> Sentence:
    """Describe the change of greedy accuracy. `subject` starts the sentence: the stage, or "From SFT to RL iteration 2,"."""
    found, path = change.greedy, subject.endswith(",")
    if change.verdict == "error unknown":
        said = f"{subject.rstrip(',')}: greedy accuracy changed by {found.points} points, with unknown noise"
    elif not found.clear:
        what = "greedy accuracy did not change" if path else "did not change greedy accuracy"
        said = f"{subject} {what} beyond noise: {found.points} points"
    elif path:
        said = f"{subject} greedy accuracy {'rose' if found.value > 0 else 'fell'} by {_by(found)} points"
    else:
        said = f"{subject} {'raised' if found.value > 0 else 'lowered'} greedy accuracy by {_by(found)} points"
    return Sentence(f"{said} ({_ends_of(change)}).", (CHANGES,))


def _iteration_sentence(change: Change, iteration: Iteration | None) -> Sentence:
    """Describe an RL iteration: the change of greedy accuracy, and of the reward."""
    said = _change_sentence(change, in_prose(change.after))
    reward = iteration.trend("reward") if iteration else None
    if iteration is None or reward is None or not reward.clear:
        return said
    score = "the reward model's score" if iteration.scored_by_model else "the reward"
    clause = f", while {score} {_moved(reward)}"
    right = iteration.trend("accuracy")
    if iteration.scored_by_model and right is not None and right.clear:
        clause += f" and the share of correct training completions {_moved(right)}"
    if exploited(change, iteration):
        clause += ": the reward model was exploited"
    return Sentence(said.text.removesuffix(".") + clause + ".", (*said.links, TRENDS, REWARD))


def _moved(trend: Trend) -> str:
    return f"{'rose' if trend.change > 0 else 'fell'} by {moved(trend)[1:]}"


def _samples_sentence(change: Change) -> Sentence | None:
    """Describe the changes of Pass@K and Maj@K: in the paper, RL raises Maj@K but not Pass@K (section 5.2.2)."""
    names = [
        f"{kind}@{k}"
        for kind, ks in (("Maj", change.other.scores.majorities), ("Pass", change.other.scores.passes))
        if (k := max(ks, default=1)) > 1
    ]
    found = [(name, change.found[name]) for name in names if name in change.found]
    if len(found) < 2 or all(difference.error is None for _, difference in found):
        return None
    (maj, majority), (passes, any_right) = found
    meaning = ""
    if majority.clear and majority.value > 0 and not any_right.clear:
        meaning = ": the policy gives answers more often that it could give before"
    elif majority.clear and majority.value > 0 and _fell(any_right):
        meaning = ": the policy gives some answers more often that it could give before, and others less often"
    text = f"From {change.before} to {in_prose(change.after)}, {_phrase(maj, majority)} and {_phrase(passes, any_right)}{meaning}."
    return Sentence(text, (CHANGES, Link("accuracy", "Pass@K over K"), Link("accuracy", "Maj@K over K")))


def _phrase(name: str, difference: Difference) -> str:
    if difference.clear:
        return f"{name} {'rose' if difference.value > 0 else 'fell'} by {_by(difference)} points"
    return f"{name}'s change is within noise ({difference.points} points)"


def _by(difference: Difference) -> str:
    """Format the size of a difference in points, as in its table but without the sign."""
    return difference.points[1:]


def _ends_of(change: Change) -> str:
    """Describe both shares, and the questions they are for."""
    one, other = change.one.scores.greedy.value, change.other.scores.greedy.value
    ends = f"{100 * one:.1f} to {100 * other:.1f} % of {count(change.asked)} questions"
    if change.greedy.gained is None:
        return f"{ends}, not paired"
    return f"{ends}; {count(change.greedy.gained)} answers gained, {count(change.greedy.lost)} lost"


def _only_score(artifacts: Sequence[ReportArtifact]) -> list[Sentence]:
    """Describe a run that evaluated one policy."""
    found = evaluations(artifacts)
    if not found:
        return []
    label, scores = found[-1][0], read_scores(found[-1][1].summary)
    return [
        Sentence(
            f"{_policy(label)} answers {scores.greedy} of {_questions(scores)} correctly with greedy decoding.",
            (Link("accuracy", "Scores of each policy"),),
        )
    ]


def _policy(label: str) -> str:
    prose = policy_in_prose(label)
    return prose[:1].upper() + prose[1:]


def _questions(scores: Scores) -> str:
    return "the held-out questions" if scores.questions is None else f"{count(scores.questions)} held-out questions"


def _mined(artifacts: Sequence[ReportArtifact]) -> list[Sentence]:
    """Describe the mined corpus, if little else happened."""
    mined = of_stage(artifacts, "mine")
    record = mined[-1].json("rounds.json") if mined else None
    funnel = record.get("funnel", []) if record else []
    if record is None or len(funnel) < 2:
        return []
    tokens = funnel[-1].get("tokens")
    size = f" ({short(tokens)} tokens, estimated)" if tokens is not None else ""
    captured, collected = funnel[0]["pages"], funnel[-1]["pages"]
    text = f"Mining collected {count(collected)} of {count(captured)} captured pages{size} in {len(record['rounds'])} rounds"
    planted, removed = (number(mined[-1].summary, f"{what}_contaminated") for what in ("planted", "removed"))
    links = [Link("corpus", "Funnel: pages that remain")]
    if planted is not None and removed is not None:
        text += f", and removed {count(removed)} of {count(planted)} pages that quote a held-out question"
        links.append(Link("corpus", "Planted and removed pages"))
    return [Sentence(f"{text}.", tuple(links))]
