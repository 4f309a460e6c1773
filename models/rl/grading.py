"""Scores completions: sets their text, the checker's verdict, the ends of their steps, and their rewards."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from mathquarry.data.grade.checker import Checker
from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.reward.label import decode_completions
from mathquarry.models.reward.model import RewardModel
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.reward_terms import RewardTerms
from mathquarry.models.rl.rewards.completions import Completions
from mathquarry.models.rl.rollouts import Rollout, Rollouts
from mathquarry.models.rl.tools import dialogue_ends


@dataclass
class Grader:
    """Grades answers with the checker. Scores completions with the reward model and the other rewards of the config."""

    config: GRPOConfig
    tokenizer: PreTrainedTokenizerBase
    checker: Checker
    reward_model: RewardModel | None
    terms: RewardTerms = field(init=False)
    marker: StepMarker = field(init=False)

    def __post_init__(self) -> None:
        self.terms = RewardTerms(self.config, self.tokenizer)
        self.marker = StepMarker(self.tokenizer)

    def grade(self, rows: Sequence[Rollout]) -> list[bool]:
        """Return whether each answer is correct. A truncated completion is wrong. Of a dialogue, only what the model wrote is graded."""
        return self._verdicts(rows, decode_completions(self.tokenizer, [one.written for one in rows]))

    def _verdicts(self, rows: Sequence[Rollout], texts: Sequence[str]) -> list[bool]:
        verdicts = self.checker.grade_many([(text, one.question.problem.answer) for text, one in zip(texts, rows, strict=True)])
        return [verdict.correct and one.finished for verdict, one in zip(verdicts, rows, strict=True)]

    def score(self, rollouts: Rollouts) -> None:
        """Set texts, verdicts, step ends and rewards. Verdicts count as a reward only if the config has the rule as a reward.

        Raises `MathQuarryError` if a reward of the config fails, or returns something else than rewards.
        """
        rows = rollouts.rows
        for one, text in zip(rows, decode_completions(self.tokenizer, rollouts.completions), strict=True):
            one.text, one.step_ends = text, self._step_ends(one)
        written = decode_completions(self.tokenizer, [one.written for one in rows]) if rollouts.masks else rollouts.texts
        with ThreadPoolExecutor(1) as executor:
            # The checker's processes grade while the reward model scores.
            graded = executor.submit(self._verdicts, rows, written)
            scores = self._reward_model_scores(rollouts)
            for one, correct in zip(rows, graded.result(), strict=True):
                one.correct = correct
        rewards, parts = self.terms.rewards(_completions(rollouts), scores)
        for place, one in enumerate(rows):
            one.rewards, one.parts = rewards[place], parts[place] if parts else {}

    def _step_ends(self, one: Rollout) -> list[int]:
        return self.marker.ends(one.completion) if one.mask is None else dialogue_ends(self.marker, one.completion, one.mask)

    def _reward_model_scores(self, rollouts: Rollouts) -> list[list[float]]:
        """Return the reward model's scores at each step end, or only at the last one. Without a reward model, the list is empty."""
        if self.reward_model is None:
            return []
        ends = rollouts.step_ends if self.config.by_step else [row[-1:] for row in rollouts.step_ends]
        return self.reward_model.score(rollouts.prompts, rollouts.completions, ends)


def _completions(rollouts: Rollouts) -> Completions:
    return Completions(
        problems=[one.question.problem for one in rollouts.rows],
        prompts=rollouts.prompts,
        completion_ids=rollouts.completions,
        texts=rollouts.texts,
        step_ends=rollouts.step_ends,
        finished=rollouts.finished,
        correct=rollouts.correct,
        masks=rollouts.masks,
        calls=rollouts.calls,
    )
