"""Selects the completions that a step trains on: dynamic sampling, overlong completions, filters by correctness. All off by default.

Correctness is the answer checker's, whatever the reward is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from mathquarry.models.rl.config import GRPOConfig, SelectionConfig
from mathquarry.models.rl.rollouts import Rollouts
from mathquarry.models.rollout.seeds import derive_seed

Question = TypeVar("Question")
Group = TypeVar("Group")


def draw_again(
    questions: list[Question],
    groups: list[Group],
    places: Sequence[int],
    further: Sequence[Question],
    sample: Callable[[list[Question], list[int]], list[Group]],
    verdicts: Callable[[list[Question], list[Group]], list[list[bool]]],
    config: GRPOConfig,
    iteration: int,
    step: int,
) -> tuple[list[Question], list[Group], list[int]]:
    """Dynamic sampling (DAPO, arXiv 2503.14476): replace a group whose completions are all correct or all wrong by a group of another
    question, at most `config.selection.extra_draws` times. Groups that are still all correct or all wrong then stay.

    `places` are the groups' positions in the whole step, and `further` are the questions to draw from. The next question depends only on
    seed, iteration, step and place, not on how many ranks share the step. Returns questions, groups, and how many times each was replaced.
    """
    questions, groups, draws = list(questions), list(groups), [0] * len(groups)
    waiting = _of_one_verdict(range(len(groups)), verdicts(questions, groups))
    order = np.random.default_rng([config.seed, iteration, step]).permutation(len(further))
    for draw in range(config.selection.extra_draws):
        if not waiting:
            break
        chosen = [further[int(order[(draw * config.prompts_per_step + places[i]) % len(further)])] for i in waiting]
        seeds = [derive_seed(config.seed, "grpo again", iteration, step, places[i], draw) for i in waiting]
        drawn = sample(chosen, seeds)
        for i, question, group in zip(waiting, chosen, drawn, strict=True):
            questions[i], groups[i] = question, group
            draws[i] += 1
        waiting = _of_one_verdict(waiting, verdicts(chosen, drawn))
    return questions, groups, draws


def _of_one_verdict(places: Sequence[int], verdicts: Sequence[Sequence[bool]]) -> list[int]:
    return [place for place, row in zip(places, verdicts, strict=True) if len(set(row)) < 2]


def less_for_length(rollouts: Rollouts, config: GRPOConfig) -> list[list[float]]:
    """Return the rewards with DAPO's soft overlong punishment (arXiv 2503.14476) in the last one of each completion.

    It is 0 up to `max_tokens` minus the buffer, then falls linearly to -`overlong_penalty` at `max_tokens`.
    """
    selection, most = config.selection, config.rollout.max_tokens
    if selection.overlong != "penalise":
        return rollouts.rewards
    buffer = max(1.0, selection.overlong_buffer * most)
    shares = [min(1.0, max(0.0, len(one.completion) - (most - buffer)) / buffer) for one in rollouts.rows]
    return [
        [*one.rewards[:-1], one.rewards[-1] - selection.overlong_penalty * share] for one, share in zip(rollouts.rows, shares, strict=True)
    ]


def learned_from(selection: SelectionConfig, correct: Sequence[bool], finished: Sequence[bool], group_size: int) -> list[bool] | None:
    """Whether to train on each completion; `None`: on all. The others still count in group means, standard deviations and the loss's
    divisor."""
    if selection.overlong != "mask" and selection.verdicts == "all":
        return None
    kept = [ended or selection.overlong != "mask" for ended in finished]
    if selection.verdicts == "mixed":
        starts = range(0, len(correct), group_size)
        mixed = [len(set(correct[start : start + group_size])) == 2 for start in starts for _ in range(group_size)]
        return [a and b for a, b in zip(kept, mixed, strict=True)]
    if selection.verdicts != "all":
        return [a and right == (selection.verdicts == "right") for a, right in zip(kept, correct, strict=True)]
    return kept
