"""The completions of one step, from the moment they are sampled until the policy has learned from them.

A completion that was cut before its end token is scored as it is, at its last token; the checker counts it as wrong. Its verdict is
measured beside the reward and never used for the update.

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
    """One completion: as it was sampled, and below what it was given when it was scored."""

    question: Question
    completion: list[int]
    finished: bool
    logprobs: list[float] | None = None  # with which the engine drew the tokens; none for worked solutions
    mask: list[int] | None = None  # of a dialogue with tools: 1 where the model drew the token; else none
    calls: list[Call] = field(default_factory=list)  # and the programs that were run
    version: str | None = None  # where completions are sampled ahead: the engine's weights that sampled it; else none

    text: str = ""
    correct: bool = False
    step_ends: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)  # at each step end (process) or at the last token alone (outcome)
    parts: dict[str, list[float]] = field(default_factory=dict)  # what each of `grpo.rewards` said; without such, nothing

    @property
    def written(self) -> list[int]:
        """The tokens that are graded: of a dialogue, what the model drew."""
        return self.completion if self.mask is None else drawn_tokens(self.completion, self.mask)


@dataclass
class Rollouts:
    """All completions of a step, or a rank's share of them; the G of a question are neighbours.

    They are filled in turn: sampled, then scored, then given `advantages_BT`. The columns below have one entry a completion.
    """

    rows: list[Rollout]
    group_size: int
    draws: list[int] = field(default_factory=list)  # how often each group was drawn again; none where that is off
    advantages_BT: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0))  # the gradient coefficient of each token
    seconds: float = 0.0  # where completions are sampled ahead: how long that took on this rank

    @classmethod
    def sampled(cls, questions: Sequence[Question], groups: Sequence[Sequence[Completion]]) -> Rollouts:
        """What an engine generated for each question."""
        rows = [
            Rollout(question, one.tokens, one.finished, one.logprobs, *((one.mask, one.calls) if isinstance(one, ToolCompletion) else ()))
            for question, group in zip(questions, groups, strict=True)
            for one in group
        ]
        return cls(rows, len(groups[0]) if groups else 0)

    def gathered(self, ranks: Ranks) -> Rollouts:
        """The completions of all ranks, in the order of the step's questions. Every rank must call it, before there are advantages."""
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
        """Token ids."""
        return [one.completion for one in self.rows]

    @property
    def logprobs(self) -> list[list[float]] | None:
        """The engine's log-probability of each token; none for worked solutions."""
        found = [one.logprobs for one in self.rows if one.logprobs is not None]
        return found if len(found) == len(self.rows) else None

    @property
    def finished(self) -> list[bool]:
        """Whether the model ended each one itself."""
        return [one.finished for one in self.rows]

    @property
    def masks(self) -> list[list[int]]:
        """Of dialogues with tools, 1 where the model drew the token; else no list at all."""
        return [one.mask for one in self.rows if one.mask is not None]

    @property
    def calls(self) -> list[list[Call]]:
        """The programs that were run."""
        return [one.calls for one in self.rows]

    @property
    def texts(self) -> list[str]:
        """Text, without special tokens."""
        return [one.text for one in self.rows]

    @property
    def correct(self) -> list[bool]:
        """The checker's verdicts."""
        return [one.correct for one in self.rows]

    @property
    def step_ends(self) -> list[list[int]]:
        """The index of each step's last token."""
        return [one.step_ends for one in self.rows]

    @property
    def rewards(self) -> list[list[float]]:
        """At each step end, or at the last token alone."""
        return [one.rewards for one in self.rows]

    @property
    def lengths_B(self) -> torch.Tensor:
        """Tokens of each completion."""
        return torch.tensor([len(one.completion) for one in self.rows])


def measure_rollouts(rollouts: Rollouts) -> dict[str, float | None]:
    """Metrics of a step: rewards beside the true accuracy, lengths, and what kinds of groups there were.

    `reward` is the last token's score, `step_reward` the mean over all step ends, `accuracy` the checker's verdict and `reward_auc` how
    well the reward tells right completions from wrong ones (`None` when all are alike). Of the groups, `groups_all_right`,
    `groups_all_wrong` and `groups_mixed` go by the verdict, `zero_advantage_groups` have no advantage at all. Of the tokens' advantages,
    `advantage_size` is the mean |advantage|, `advantage_std` their spread; `measure_advantages` has two more. `entropy` is the mean of
    -log p at the sampled tokens, which estimates the entropy of the distribution they were drawn from.
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
    """Of each reward, `rewards/NAME`: the mean of all values that it gave."""
    values = {name: [value for part in parts for value in part[name]] for name in (parts[0] if parts else ())}
    return {f"rewards/{name}": sum(found) / len(found) for name, found in values.items()}


def measure_sampling(rollouts: Rollouts, max_calls: int) -> dict[str, float | None]:
    """How much was drawn again, and what became of programs; `max_calls` is how many a dialogue may have."""
    found: dict[str, float | None] = {}
    if rollouts.draws:
        found = {"extra_groups": float(sum(rollouts.draws)), "groups_replaced": sum(map(bool, rollouts.draws)) / len(rollouts.draws)}
    return found | (measure_calls(rollouts.masks, rollouts.calls, rollouts.finished, max_calls) if rollouts.masks else {})
