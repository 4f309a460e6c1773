"""All rewards of a method, and their combination into one reward: the weighted sum.

Our choice, where the paper does not say: if rewards of steps and rewards of whole completions are added up, the last step gets the latter.
So they enter the advantage of every token once, as in outcome supervision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.rewards.completions import Completions, Values, checked
from mathquarry.models.rl.rewards.config import FunctionReward, HTTPReward, ModelReward
from mathquarry.models.rl.rewards.function import RewardFunction
from mathquarry.models.rl.rewards.served import ServedReward

Parts = list[dict[str, list[float]]]
"""For each completion, the values of each reward by name: one value, or one per step."""


class RewardTerms:
    """The rewards that a config names, ready to be computed."""

    def __init__(self, config: GRPOConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `MathQuarryError` if a function cannot be imported or called, or if a server's token is missing."""
        self._config, self._tokenizer = config, tokenizer
        self._asked: dict[str, Callable[[dict[str, Any]], Any]] = {}
        for term in config.reward_terms:
            if isinstance(term, FunctionReward):
                self._asked[term.called] = RewardFunction(term)
            elif isinstance(term, HTTPReward):
                self._asked[term.called] = ServedReward(term)

    def rewards(self, completions: Completions, scores: list[list[float]]) -> tuple[list[list[float]], Parts]:
        """Return the reward of each completion (one value, or one per step if any term has such values), and the value of each term.

        `scores` are the reward model's, if it is a term. A method without rewards gives 1 to every completion. Raises `MathQuarryError` if
        a term fails, or if it does not return the right number of finite numbers.
        """
        if not self._config.reward_terms:
            return [[1.0] for _ in completions.completion_ids], []
        said: list[Values] = []
        for term in self._config.reward_terms:
            if isinstance(term, ModelReward):
                said.append(Values(scores, self._config.by_step))
            elif isinstance(term, (FunctionReward, HTTPReward)):
                label = f"grpo.rewards, {f'function {term.function}' if isinstance(term, FunctionReward) else term.url}"
                values = self._asked[term.called](completions.keywords(self._tokenizer))
                said.append(self._fitting(checked(values, completions.step_ends, label), label))
            else:
                said.append(Values([[float(right)] for right in completions.correct], False))
        by_step = any(values.by_step for values in said)
        if self._config.by_step and not by_step:
            raise MathQuarryError("grpo.supervision is `process`, but none of grpo.rewards has one value per step. Set it to `outcome`.")
        weights = [term.weight for term in self._config.reward_terms]
        rewards = [
            _sum([values.rows[place] for values in said], [values.by_step for values in said], weights, len(ends) if by_step else 1)
            for place, ends in enumerate(completions.step_ends)
        ]
        if not self._config.rewards:
            return rewards, []
        names = [term.called for term in self._config.reward_terms]
        return rewards, [dict(zip(names, rows, strict=True)) for rows in zip(*(values.rows for values in said), strict=True)]

    def _fitting(self, values: Values, label: str) -> Values:
        if values.by_step and not self._config.by_step:
            raise MathQuarryError(
                f"{label} returned one value per step, which is only used with process supervision of groups. Set grpo.supervision to "
                "`process`, or return one number per completion."
            )
        return values


def _sum(rows: list[list[float]], by_step: list[bool], weights: list[float], count: int) -> list[float]:
    """Return the weighted sum of one completion's values at `count` places. A value of the whole completion is added at the last."""
    total = [0.0] * count
    for row, steps, weight in zip(rows, by_step, weights, strict=True):
        for place, value in enumerate(row):
            total[place if steps else -1] += weight * value
    return total
