"""The completions of one step, from the moment they are sampled until the policy has learned from them.

A completion that was truncated before its end token is scored at its last token, and counts as wrong. The checker's verdict is logged as a
metric next to the reward; it is used for the update only if a reward of the config uses it.

Shape suffixes: B completions, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from mathquarry.models.policy.questions import Question
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.reward.model import area_under_curve
from mathquarry.models.rl.advantage_metrics import measure_advantages
from mathquarry.models.rl.advantages import pad_steps
from mathquarry.models.rl.tools import drawn_tokens, measure_calls
from mathquarry.models.rollout.engine import Completion
from mathquarry.models.rollout.tools import Call, ToolCompletion


@dataclass
class Rollout:
    """One completion. The first fields are set when it is sampled, the others when it is scored."""

    question: Question
    completion: list[int]
    finished: bool
    logprobs: list[float] | None = None  # the engine's, of each sampled token; None for worked solutions
    mask: list[int] | None = None  # of a dialogue with tools: 1 where the model sampled the token; else None
    calls: list[Call] = field(default_factory=list)  # of a dialogue with tools: the programs that were run
    version: str | None = None  # if completions are sampled ahead: name of the weights that sampled it; else None

    text: str = ""
    correct: bool = False
    step_ends: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)  # at each step end (process) or only at the last token (outcome)
    parts: dict[str, list[float]] = field(default_factory=dict)  # the values of each reward in `grpo.rewards`; empty without any

    @property
    def written(self) -> list[int]:
        """The tokens that are graded. Of a dialogue, these are the tokens that the model sampled."""
        return self.completion if self.mask is None else drawn_tokens(self.completion, self.mask)


@dataclass
class Rollouts:
    """All completions of a step, or one rank's part of them. The G completions of a question are adjacent.

    The fields are filled in this order: sampling, scoring, `advantages_BT`. The properties below have one entry per completion.
    """

    rows: list[Rollout]
    group_size: int
    draws: list[int] = field(default_factory=list)  # how often each group was replaced; empty if dynamic sampling is off
    advantages_BT: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0))  # the gradient coefficient of each token
    seconds: float = 0.0  # if completions are sampled ahead: how long that took on this rank

    @classmethod
    def sampled(cls, questions: Sequence[Question], groups: Sequence[Sequence[Completion]]) -> Rollouts:
        """Make rollouts from what an engine generated for each question."""
        rows = [
            Rollout(question, one.tokens, one.finished, one.logprobs, *((one.mask, one.calls) if isinstance(one, ToolCompletion) else ()))
            for question, group in zip(questions, groups, strict=True)
            for one in group
        ]
        return cls(rows, len(groups[0]) if groups else 0)

    def gathered(self, ranks: Ranks) -> Rollouts:
        """Return the completions of all ranks, in the order of the step's questions. Every rank calls this before advantages are set."""
        shares = ranks.gather((self.rows, self.draws))
        rows, draws = [one for rows, _ in shares for one in rows], [count for _, draws in shares for count in draws]
        return Rollouts(rows, self.group_size, draws, seconds=self.seconds)

    @property
    def questions(self) -> list[Question]:
        """The question of each group."""
        return [one.question for one in self.rows[:: self.group_size]]

    @property
    def prompts(self) -> list[list[int]]:
        """The prompt of each completion."""
        return [one.question.prompt for one in self.rows]

    @property
    def completions(self) -> list[list[int]]:
        """The token ids of each completion."""
        return [one.completion for one in self.rows]

    @property
    def logprobs(self) -> list[list[float]] | None:
        """The engine's log-probability of each token; None for worked solutions."""
        found = [one.logprobs for one in self.rows if one.logprobs is not None]
        return found if len(found) == len(self.rows) else None

    @property
    def finished(self) -> list[bool]:
        """Whether each completion ended with an end token."""
        return [one.finished for one in self.rows]

    @property
    def masks(self) -> list[list[int]]:
        """For dialogues with tools: 1 where the model sampled the token. Without tools, the list is empty."""
        return [one.mask for one in self.rows if one.mask is not None]

    @property
    def calls(self) -> list[list[Call]]:
        """The programs that were run in each completion."""
        return [one.calls for one in self.rows]

    @property
    def texts(self) -> list[str]:
        """The text of each completion, without special tokens."""
        return [one.text for one in self.rows]

    @property
    def correct(self) -> list[bool]:
        """Whether each completion is correct, according to the checker."""
        return [one.correct for one in self.rows]

    @property
    def step_ends(self) -> list[list[int]]:
        """The index of each step's last token."""
        return [one.step_ends for one in self.rows]

    @property
    def rewards(self) -> list[list[float]]:
        """The rewards of each completion: at each step end, or only at the last token."""
        return [one.rewards for one in self.rows]

    @property
    def lengths_B(self) -> torch.Tensor:
        """Number of tokens of each completion."""
        return torch.tensor([len(one.completion) for one in self.rows])


def measure_rollouts(rollouts: Rollouts) -> dict[str, float | None]:
    """Return metrics of a step: rewards, true accuracy, lengths, and kinds of groups.

    `reward` is the mean reward at the last token, `step_reward` the mean over all step ends, and `accuracy` the share of completions that
    the checker counts as correct. `reward_auc` says how well the reward separates correct completions from wrong ones (`None` if all are
    correct or all are wrong). `groups_all_right`, `groups_all_wrong` and `groups_mixed` are shares of groups by the checker's verdicts, and
    `zero_advantage_groups` is the share of groups whose advantages are all 0. `advantage_size` is the mean |advantage| of the tokens, and
    `advantage_std` their standard deviation; `measure_advantages` adds two more. `entropy` is the mean of -log p at the sampled tokens,
    which estimates the entropy of the distribution they were sampled from.
    """
    last = [row[-1] for row in rollouts.rewards]
    steps = [reward for row in rollouts.rewards for reward in row]
    lengths = [len(completion) for completion in rollouts.completions]
    size, count, correct = rollouts.group_size, len(rollouts.rows), rollouts.correct
    right = [sum(correct[start : start + size]) for start in range(0, count, size)]
    flat = [bool((rollouts.advantages_BT[start : start + size] == 0).all()) for start in range(0, count, size)]
    groups = len(right)
    drawn_BT = pad_steps(rollouts.masks or [[1] * length for length in lengths], 0) != 0
    advantages_N = rollouts.advantages_BT[drawn_BT].double()
    own_BT = torch.where(drawn_BT, rollouts.advantages_BT, 0.0)
    surprise = None if rollouts.logprobs is None else -sum(map(sum, rollouts.logprobs)) / int(drawn_BT.sum())
    return {
        "reward": sum(last) / count,
        "step_reward": sum(steps) / len(steps),
        "accuracy": sum(correct) / count,
        "reward_auc": area_under_curve(last, correct),
        "entropy": surprise,
        "completion_tokens": sum(lengths) / count,
        "completion_tokens_shortest": min(lengths),
        "completion_tokens_longest": max(lengths),
        "truncated_share": 1 - sum(rollouts.finished) / count,
        "steps_per_completion": sum(map(len, rollouts.step_ends)) / count,
        "distinct_share": len({(place // size, tuple(completion)) for place, completion in enumerate(rollouts.completions)}) / count,
        "groups_all_right": sum(number == size for number in right) / groups,
        "groups_all_wrong": sum(number == 0 for number in right) / groups,
        "groups_mixed": sum(0 < number < size for number in right) / groups,
        "zero_advantage_groups": sum(flat) / groups,
        "advantage_size": float(advantages_N.abs().mean()),
        "advantage_std": float(advantages_N.std(unbiased=False)),
        **measure_advantages(own_BT, lengths, correct, [len(ends) for ends in rollouts.step_ends], size),
        **_mean_parts([one.parts for one in rollouts.rows]),
    }


def _mean_parts(parts: list[dict[str, list[float]]]) -> dict[str, float]:
    """Return `rewards/NAME` for each reward of the config: the mean of all its values."""
    values = {name: [value for part in parts for value in part[name]] for name in (parts[0] if parts else ())}
    return {f"rewards/{name}": sum(found) / len(found) for name, found in values.items()}


def measure_sampling(rollouts: Rollouts, max_calls: int) -> dict[str, float | None]:
    """Return metrics of dynamic sampling and of the programs that were run. `max_calls` is the limit of programs in a dialogue."""
    found: dict[str, float | None] = {}
    if rollouts.draws:
        found = {"extra_groups": float(sum(rollouts.draws)), "groups_replaced": sum(map(bool, rollouts.draws)) / len(rollouts.draws)}
    return found | (measure_calls(rollouts.masks, rollouts.calls, rollouts.finished, max_calls) if rollouts.masks else {})
