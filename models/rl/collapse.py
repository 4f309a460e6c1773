"""Stopping criteria: stop a run that has collapsed, instead of spending the rest of its budget."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.config import CollapseConfig


def check_collapse(history: Sequence[Mapping[str, float]], config: CollapseConfig) -> None:
    """Raise `MathQuarryError` if the mean of a metric over the last `config.steps` steps is beyond its limit.

    `history` has the metrics of every step so far, oldest first. Metrics that a method does not have are skipped.
    """
    if len(history) < config.steps:
        return
    recent, step = history[-config.steps :], len(history)

    def mean(name: str, steps: Sequence[Mapping[str, float]] = recent) -> float | None:
        values = [metrics[name] for metrics in steps if name in metrics]
        return sum(values) / len(values) if values else None

    kl, entropy, length, cut = (mean(name) for name in ("kl", "entropy", "completion_tokens", "truncated_share"))
    cut_before, mismatch = mean("truncated_share", history[: config.steps]), mean("mismatch_mean")
    when = f"step {step}: the run has collapsed. Over the last {config.steps} steps"
    remedy = "The last checkpoint is kept."
    if kl is not None and kl > config.largest_kl:
        raise MathQuarryError(
            f"{when} the KL to the reference was {kl:.3g} nats per token; collapse.largest_kl is {config.largest_kl:g}. Lower "
            f"learning_rate, raise kl_coef, or use fewer steps per iteration. {remedy}"
        )
    if entropy is not None and entropy < config.smallest_entropy:
        raise MathQuarryError(
            f"{when} the policy's entropy was {entropy:.3g} nats per token; collapse.smallest_entropy is {config.smallest_entropy:g}. All "
            f"completions of a question are alike, so nothing is learned. Lower learning_rate or raise the temperature. {remedy}"
        )
    if length is not None and length < config.shortest_completion:
        raise MathQuarryError(
            f"{when} completions had {length:.3g} tokens on average; collapse.shortest_completion is "
            f"{config.shortest_completion:g}. The reward prefers "
            f"empty completions: check the rollouts, and refresh the reward model. {remedy}"
        )
    if cut is not None and cut_before is not None and cut - cut_before > config.truncated_rise:
        raise MathQuarryError(
            f"{when} {cut:.0%} of the completions were truncated at max_tokens, {cut_before:.0%} at the start; collapse.truncated_rise is "
            f"{config.truncated_rise:.0%}. The policy no longer ends its completions: check the rollouts, and lower learning_rate. {remedy}"
        )
    if mismatch is not None and mismatch > config.largest_mismatch:
        raise MathQuarryError(
            f"{when} the engine's log-probabilities differed from the trainer's by {mismatch:.3g} nats per token on average; "
            f"collapse.largest_mismatch is {config.largest_mismatch:g}. The policy learns from completions of another model: use one "
            f"precision for both, set tis_cap, or lower learning_rate if rollout.ahead is 1. {remedy}"
        )


def reward_hacking(history: Sequence[Mapping[str, float]], config: CollapseConfig) -> str | None:
    """Return an error message if the reward rose over the last `config.hacking_steps` steps while accuracy or AUC fell; else `None`.

    The second half of these steps is compared with the first. Rewards can have any scale, so a reward has risen if its mean rose by more
    than two standard errors of the difference. Held-out accuracy and the reward's AUC have fallen if they fell by more than
    `config.hacking_fall` and, if a half has several values, by more than two standard errors. `history` is the same as in
    `check_collapse`.
    """
    if config.hacking_steps is None or len(history) < config.hacking_steps:
        return None
    recent, half = history[-config.hacking_steps :], config.hacking_steps // 2

    def change(name: str) -> tuple[float, float] | None:
        """Return the mean of the second half minus that of the first, and its standard error."""
        halves = [[metrics[name] for metrics in some if name in metrics] for some in (recent[:half], recent[half:])]
        if not all(halves):
            return None
        error = sum(statistics.variance(values) / len(values) for values in halves if len(values) > 1) ** 0.5
        return statistics.fmean(halves[1]) - statistics.fmean(halves[0]), error

    reward = change("reward")
    if reward is None or reward[0] <= 2 * reward[1]:
        return None
    for name, meant in (("test_accuracy", "accuracy on held-out questions"), ("reward_auc", "the reward's AUC against the answer checker")):
        found = change(name)
        if found is not None and -found[0] > max(config.hacking_fall, 2 * found[1]):
            return (
                f"step {len(history)}: the reward is exploited. Over the last {config.hacking_steps} steps it rose by {reward[0]:.3g}, "
                f"and {meant} fell by {-found[0]:.3g}; collapse.hacking_fall is {config.hacking_fall:g}. Refresh the reward model sooner "
                '(fewer steps per iteration), raise kl_coef, or set keep = "best", which ends the iteration here with its best policy.'
            )
    return None
