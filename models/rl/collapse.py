"""Stop rules: a run that has collapsed is told so, instead of going on to spend its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.errors import MathQuarryError
from models.config import CollapseConfig


def check_collapse(history: Sequence[Mapping[str, float]], config: CollapseConfig) -> None:
    """Raise `MathQuarryError` saying what went wrong, if the mean of a figure over the last `config.steps` steps is past its limit.

    `history` has the figures of every step so far, oldest first; a figure that a method does not have is not judged.
    """
    if len(history) < config.steps:
        return
    recent, step = history[-config.steps :], len(history)

    def mean(name: str, steps: Sequence[Mapping[str, float]] = recent) -> float | None:
        values = [figures[name] for figures in steps if name in figures]
        return sum(values) / len(values) if values else None

    kl, entropy, length, cut = (mean(name) for name in ("kl", "entropy", "output_tokens", "truncated_share"))
    cut_before = mean("truncated_share", history[: config.steps])
    when = f"step {step}: the run has collapsed. Over the last {config.steps} steps"
    remedy = "The last checkpoint is kept."
    if kl is not None and kl > config.largest_kl:
        raise MathQuarryError(
            f"{when} the KL to the reference was {kl:.3g} nats a token; collapse.largest_kl is {config.largest_kl:g}. Lower learning_rate, "
            f"raise kl_coef, or make fewer steps an iteration. {remedy}"
        )
    if entropy is not None and entropy < config.smallest_entropy:
        raise MathQuarryError(
            f"{when} the policy's entropy was {entropy:.3g} nats a token; collapse.smallest_entropy is {config.smallest_entropy:g}. All "
            f"outputs of a question are alike and nothing is left to learn from. Lower learning_rate or raise the temperature. {remedy}"
        )
    if length is not None and length < config.shortest_output:
        raise MathQuarryError(
            f"{when} outputs had {length:.3g} tokens on average; collapse.shortest_output is {config.shortest_output:g}. The reward likes "
            f"empty outputs: look at the rollouts, and refresh the reward model. {remedy}"
        )
    if cut is not None and cut_before is not None and cut - cut_before > config.truncated_rise:
        raise MathQuarryError(
            f"{when} {cut:.0%} of the outputs were cut at max_tokens, {cut_before:.0%} at the start; collapse.truncated_rise is "
            f"{config.truncated_rise:.0%}. The policy no longer ends its outputs: look at the rollouts, lower learning_rate. {remedy}"
        )
