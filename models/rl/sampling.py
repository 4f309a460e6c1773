"""The completions of a step: which questions, with which seeds, and what the engine answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mathquarry.models.logprobs.partition import own_partition
from mathquarry.models.policy.adapters import adapters_off
from mathquarry.models.policy.questions import Question
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.grading import Grader
from mathquarry.models.rl.rollouts import Rollout, Rollouts
from mathquarry.models.rl.selection import draw_again
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.engine import Completion, RolloutEngine
from mathquarry.models.rollout.seeds import derive_seed
from mathquarry.models.rollout.tools import ToolRollouts

Item = TypeVar("Item")


@dataclass
class Sampler:
    """Samples this rank's share of a step. `solutions` are those of the questions, where completions are not sampled; with `tools`,
    completions are dialogues in which programs are run."""

    config: GRPOConfig
    iteration: int
    questions: list[Question]
    solutions: list[list[int]] | None
    models: Models
    engine: RolloutEngine
    grader: Grader
    tools: ToolRollouts | None = None

    def sample(self, step: int) -> Rollouts:
        """The completions of this rank's questions of a step."""
        config = self.config
        if self.solutions is not None:
            pairs = list(zip(self.questions, self.solutions, strict=True))
            chosen = self.own(choose_questions(pairs, config, self.iteration, step, config.prompts_per_step * config.group_size))
            return Rollouts([Rollout(question, solution, finished=True) for question, solution in chosen], group_size=1)
        chosen_questions = choose_questions(self.questions, config, self.iteration, step)
        questions = self.own(chosen_questions)
        groups = self.groups(questions, self.own(sampling_seeds(config, self.iteration, step)))
        draws: list[int] = []
        if config.selection.extra_draws:
            asked = {question.problem.id for question in chosen_questions}
            further = [question for question in self.questions if question.problem.id not in asked] or self.questions
            places = self.own(list(range(config.prompts_per_step)))
            questions, groups, draws = draw_again(
                questions, groups, places, further, self.groups, self.verdicts, config, self.iteration, step
            )
        return replace(Rollouts.sampled(questions, groups), draws=draws)

    def groups(self, questions: list[Question], seeds: list[int]) -> list[Sequence[Completion]]:
        """A group of completions for each question."""
        # An engine may generate with the policy's own module; where it is to answer for the start, adapters are off.
        with adapters_off(self.models.policy.model) if self.config.paradigm.data == "offline" else nullcontext():
            return list(self.generate(questions, self.config.group_size, self.config.rollout.temperature, seeds))

    def greedy(self, questions: list[Question]) -> Rollouts:
        """The most likely completion of each question."""
        return Rollouts.sampled(questions, self.generate(questions, 1, 0.0, [0] * len(questions)))

    def generate(self, questions: list[Question], n: int, temperature: float, seeds: list[int]) -> Sequence[Sequence[Completion]]:
        """`n` completions for each question, with tools where there are some."""
        prompts, room = [question.prompt for question in questions], self.config.rollout.max_tokens
        if self.tools is not None:
            return self.tools.generate(self.engine, prompts, n=n, temperature=temperature, max_tokens=room, seeds=seeds)
        return self.engine.generate(prompts, n=n, temperature=temperature, max_tokens=room, seeds=seeds)

    def verdicts(self, questions: list[Question], groups: Sequence[Sequence[Completion]]) -> list[list[bool]]:
        """Whether each completion of each question is right."""
        sampled = Rollouts.sampled(questions, groups)
        correct = iter(self.grader.grade(sampled.rows))
        return [[next(correct) for _ in group] for group in groups]

    def own(self, items: list[Item]) -> list[Item]:
        """This rank's share of a list: neighbours, so that all shares in a row are the list."""
        share = own_partition([1] * len(items), self.models.ranks)
        return items[share.start : share.stop]


def choose_questions(questions: Sequence[Item], config: GRPOConfig, iteration: int, step: int, count: int | None = None) -> list[Item]:
    """The questions of a step (iterations and steps count from 1): a function of the seed and these numbers alone.

    `count` is their number, `config.prompts_per_step` unless given. Things other than questions are chosen alike.

    Steps walk through all questions in a random order before any comes again, over the iterations too.
    """
    count = count or config.prompts_per_step
    first = ((iteration - 1) * config.steps + step - 1) * count
    chosen: list[Item] = []
    orders: dict[int, np.ndarray] = {}
    for place in range(first, first + count):
        epoch, index = divmod(place, len(questions))
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([config.seed, epoch]).permutation(len(questions))
        chosen.append(questions[int(orders[epoch][index])])
    return chosen


def sampling_seeds(config: GRPOConfig, iteration: int, step: int) -> list[int]:
    """One seed for each place of a step, so that a question that comes again, even in the same step, is sampled anew."""
    return [derive_seed(config.seed, "grpo", iteration, step, place) for place in range(config.prompts_per_step)]
