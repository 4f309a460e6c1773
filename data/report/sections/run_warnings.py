"""Warnings of a run that readers need before they use its scores. Made by rule, with links to the metrics.

| warning | rule |
|---|---|
| failed run | the run's record says that it failed |
| tiny question counts | fewer than `FEW_QUESTIONS` held-out questions |
| collapse | greedy accuracy fell, beyond noise, to less than half; entropy to a tenth, completion length to half; KL past half its limit |
| truncation | a tenth of the completions of an iteration's last steps, or of a policy's greedy answers, were truncated |
| mismatch | engine and trainer differ by more than the probe's tolerance on the rollouts, or by half of it after a weight sync |
| nothing to learn from | less than a tenth of the groups of the last steps had correct and wrong completions |
| reward model | its AUC on held-out questions, between or within questions, is below `WEAK_REWARD` |
| classifier | of the last round: its AUC was not measured, or is below `WEAK_CLASSIFIER`; and the warnings that mining recorded |
| planner | a stage of at least ten minutes differs by more than 25 % from the plan for the GPU that it ran on |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.report.page.artifact import ReportArtifact, of_stage
from mathquarry.data.report.page.blocks import count, duration, number, percent, rounded
from mathquarry.data.report.page.opening import Link, Sentence
from mathquarry.data.report.sections.changes import TITLE as CHANGES
from mathquarry.data.report.sections.changes import policy_changes
from mathquarry.data.report.sections.policies import evaluations, in_prose, rl_number
from mathquarry.data.report.sections.rl_trends import TITLE as TRENDS
from mathquarry.data.report.sections.rl_trends import Iteration, iterations_of

FEW_QUESTIONS = 200
"""Below this, the standard error of a score near 50 % is above 3.5 points."""
CUT_OFF = 0.1
HALVED, TENTH = 0.5, 0.1
LOW_ENTROPY = 0.05
"""In nats per token: below this, the policy is almost deterministic."""
WEAK_REWARD, WEAK_CLASSIFIER = 0.6, 0.8
PLAN_ERROR = 0.25
SHORT_STAGE = 600.0
"""In seconds. Shorter stages are mostly start-up, which plans do not include."""


def run_warnings(run: Mapping[str, Any], artifacts: Sequence[ReportArtifact]) -> list[Sentence]:
    """Return all warnings, those about the metrics as a whole first."""
    return [
        *_failed(run),
        *_few_questions(artifacts),
        *_lost_accuracy(artifacts),
        *(sentence for iteration in iterations_of(artifacts) for sentence in _iteration(iteration)),
        *_cut_answers(artifacts),
        *_reward_models(artifacts),
        *_classifier(artifacts),
        *_planner(run, artifacts),
    ]


def _failed(run: Mapping[str, Any]) -> Iterator[Sentence]:
    if run.get("status") == "failed":
        yield Sentence("This run failed. The report shows what was made before.", (Link("cost"),))


def _few_questions(artifacts: Sequence[ReportArtifact]) -> Iterator[Sentence]:
    asked = [number(artifact.summary, "questions") for _, artifact in evaluations(artifacts)]
    least = min((questions for questions in asked if questions), default=None)
    if least is None or least >= FEW_QUESTIONS:
        return
    error = 100 * math.sqrt(0.25 / least)
    answers = "question is" if least == 1 else "questions are"
    yield Sentence(
        f"{count(least)} held-out {answers} few: near 50 %, a score has a standard error of {error:.1f} points, and only differences of "
        f"several times that are meaningful. Raise evaluate.questions.",
        (Link("accuracy", "Scores of each policy"),),
    )


def _lost_accuracy(artifacts: Sequence[ReportArtifact]) -> Iterator[Sentence]:
    steps: dict[str, Any] = {}
    for change in policy_changes(artifacts):
        steps.setdefault(change.after, change)  # a change over several iterations comes last; it belongs to no single iteration
    for label, change in steps.items():
        one, other = change.one.scores.greedy.value, change.other.scores.greedy.value
        if change.greedy.clear and other < HALVED * one:
            yield Sentence(
                f"{_capital(in_prose(label))} collapsed: greedy accuracy went from {100 * one:.1f} to {100 * other:.1f} %.",
                (Link("accuracy", CHANGES),),
            )


def _iteration(iteration: Iteration) -> Iterator[Sentence]:
    """Warn about collapse, truncation, mismatch and a lack of mixed groups, from the metrics of an iteration's steps."""
    grpo = _part(iteration.artifact.config, "grpo")
    early, late = iteration.early, iteration.late
    first, last = early("entropy"), late("entropy")
    if first and last is not None and last < TENTH * first and last < LOW_ENTROPY:
        yield _of(
            iteration,
            f"entropy fell from {rounded(first)} to {rounded(last)} nats a token; the completions of a question are nearly alike",
            "Entropy",
        )
    first, last = early("completion_tokens"), late("completion_tokens")
    if first and last is not None and last < HALVED * first:
        yield _of(iteration, f"completions shrank from {first:.1f} to {last:.1f} tokens", "Completion length")
    limit = number(_part(grpo, "collapse"), "largest_kl")
    last = late("kl")
    if limit and last is not None and last > HALVED * limit:
        text = f"the KL to the reference reached {rounded(last, 2)} nats a token; at {limit:g} (grpo.collapse.largest_kl) the run stops"
        yield _of(iteration, text, "KL to the reference")
    last = late("truncated_share")
    if last is not None and last >= CUT_OFF:
        cut = _tokens(number(_part(grpo, "rollout"), "max_tokens"))
        text = f"{percent(last)} of the completions in its last steps were truncated{cut}, and count as wrong"
        yield _of(iteration, text, "Truncated completions")
    yield from _mismatch(iteration, number(grpo, "probe_tolerance"))
    last = late("groups_mixed")
    if last is not None and last < TENTH:
        text = f"only {percent(last)} of the groups in its last steps had correct and wrong completions; questions are too easy or hard"
        yield _of(iteration, text, "Groups by outcome")


def _mismatch(iteration: Iteration, tolerance: float | None) -> Iterator[Sentence]:
    if not tolerance:
        return
    found = iteration.late("mismatch_mean")
    if found is not None and found > tolerance:
        text = f"engine and trainer differ by {found:.1e} nats a token on the rollouts; grpo.probe_tolerance is {tolerance:g}"
        yield _of(iteration, text, "Engine against trainer on the rollouts")
    largest = max(iteration.values("probe_mean"), default=0.0)
    if largest > HALVED * tolerance:
        text = f"engine and trainer differed by {largest:.1e} nats a token on the probe after a weight sync; at {tolerance:g} the run stops"
        yield _of(iteration, text, "Trainer against engine")


def _cut_answers(artifacts: Sequence[ReportArtifact]) -> Iterator[Sentence]:
    for label, artifact in evaluations(artifacts):
        path = artifact.path / "answers.parquet"
        if label == "Base" or not path.exists() or "finished" not in pq.read_schema(path).names:  # a base model has not learned to end
            continue
        table = pq.ParquetFile(path).read(columns=["kind", "finished"])
        kinds = zip(table["kind"].to_pylist(), table["finished"].to_pylist(), strict=True)
        finished = [bool(done) for kind, done in kinds if kind == "greedy"]
        share = 1 - sum(finished) / len(finished) if finished else 0.0
        if share >= CUT_OFF:
            cut = _tokens(number(_part(_part(artifact.config, "evaluate"), "rollout"), "max_tokens"))
            name = in_prose(label) if rl_number(label) is not None else label
            yield Sentence(
                f"{_capital(name)}: {percent(share)} of the greedy answers were truncated{cut} and count as wrong.",
                (Link("answers"), Link("accuracy", "Scores of each policy")),
            )


def _reward_models(artifacts: Sequence[ReportArtifact]) -> Iterator[Sentence]:
    for artifact in of_stage(artifacts, "reward"):
        name = f"The reward model after RL iteration {artifact.iteration}" if artifact.iteration else "The reward model"
        for auc, words in (
            ("auc", "questions held out from its training"),
            ("auc_within_question", "answers to the same held-out question"),
        ):
            found = number(artifact.summary, auc)
            if found is not None and found < WEAK_REWARD:
                text = f"{name} hardly separates correct from wrong solutions: its AUC on {words} is {rounded(found)}; 0.5 is guessing."
                yield Sentence(text, (Link("reward"),))
                break


def _classifier(artifacts: Sequence[ReportArtifact]) -> Iterator[Sentence]:
    mined = of_stage(artifacts, "mine")
    record = mined[-1].json("rounds.json") if mined else None
    if not record or not record["rounds"]:
        return
    rounds = record["rounds"]
    last = rounds[-1]
    if "separation" in last:
        auc = last["separation"]["auc"]
        if auc is None:
            yield Sentence(
                "The classifier of the last round was not measured, since the seed has too few pages to hold some out. Check the pages.",
                (Link("corpus", "Rounds"),),
            )
        elif auc < WEAK_CLASSIFIER:
            yield Sentence(
                f"The classifier of the last round does not separate well: its AUC on held-out pages is {rounded(auc)}; 0.5 is guessing.",
                (Link("corpus", "Rounds"), Link("corpus", "Scores of all pages, by round")),
            )
    found = sum(len(entry.get("warnings", [])) for entry in rounds)
    if found:
        text = f"Mining gave {count(found)} warning{'s' if found > 1 else ''} about its rounds."
        yield Sentence(text, (Link("corpus", "Warnings of mining"),))


def _planner(run: Mapping[str, Any], artifacts: Sequence[ReportArtifact]) -> Iterator[Sentence]:
    """`run["plan"]` has the planned seconds of each stage for each kind of GPU. Stages on other hardware are not compared."""
    plan = _part(run, "plan")
    wrong = []
    for artifact in artifacts:
        planned = number(_part(plan, _gpu_kind(artifact, list(plan)) or ""), artifact.name)
        if planned and max(artifact.seconds, planned) >= SHORT_STAGE and not -PLAN_ERROR <= planned / artifact.seconds - 1 <= PLAN_ERROR:
            wrong.append(f"{artifact.name} took {duration(artifact.seconds)}; planned: {duration(planned)}")
    if wrong:
        text = (
            f"The plan differs by more than {100 * PLAN_ERROR:.0f} % on this machine: {'; '.join(wrong)}. Do not plan a larger run with it."
        )
        yield Sentence(text, (Link("cost"),))


def _gpu_kind(artifact: ReportArtifact, kinds: Sequence[str]) -> str | None:
    """Return the kind of GPU that made an artifact, if plans know it."""
    gpus = _part(artifact.json("manifest.json") or {}, "environment").get("gpus") or []
    names = {str(gpu.get("name", "")).lower().replace(" ", "") for gpu in gpus}
    return next((kind for kind in kinds if names and all(kind in name for name in names)), None)


def _of(iteration: Iteration, text: str, title: str) -> Sentence:
    return Sentence(f"{_capital(iteration.name)}: {text}.", (Link("rl", title), Link("rl", TRENDS)))


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a config or record; empty if there is none."""
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _tokens(limit: float | None) -> str:
    return f" at {count(limit)} tokens" if limit else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
