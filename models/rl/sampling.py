"""Samples the completions of a step: chooses its questions and seeds, and calls the engine."""

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
    """Samples this rank's part of a step.

    With `solutions`, one worked solution per question, nothing is sampled: the solutions are the completions. With `tools`, completions are
    dialogues in which programs are run.
    """

    config: GRPOConfig
    iteration: int
    questions: list[Question]
    solutions: list[list[int]] | None
    models: Models
    engine: RolloutEngine
    grader: Grader
    tools: ToolRollouts | None = None

    def sample(self, step: int) -> Rollouts:
        """Return the completions of this rank's questions in a step."""
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
        """Return a group of completions for each question."""
        # An engine may generate with the policy's own module. Offline, the initial policy samples: the same module without its adapters.
        with adapters_off(self.models.policy.model) if self.config.paradigm.data == "offline" else nullcontext():
            return list(self.generate(questions, self.config.group_size, self.config.rollout.temperature, seeds))

    def greedy(self, questions: list[Question]) -> Rollouts:
        """Return the greedy completion of each question."""
        return Rollouts.sampled(questions, self.generate(questions, 1, 0.0, [0] * len(questions)))

    def generate(self, questions: list[Question], n: int, temperature: float, seeds: list[int]) -> Sequence[Sequence[Completion]]:
        """Return `n` completions for each question, with tools if there are any."""
        prompts, room = [question.prompt for question in questions], self.config.rollout.max_tokens
        if self.tools is not None:
            return self.tools.generate(self.engine, prompts, n=n, temperature=temperature, max_tokens=room, seeds=seeds)
        return self.engine.generate(prompts, n=n, temperature=temperature, max_tokens=room, seeds=seeds)

    def verdicts(self, questions: list[Question], groups: Sequence[Sequence[Completion]]) -> list[list[bool]]:
        """Return whether each completion of each question is correct."""
        sampled = Rollouts.sampled(questions, groups)
        correct = iter(self.grader.grade(sampled.rows))
        return [[next(correct) for _ in group] for group in groups]

    def own(self, items: list[Item]) -> list[Item]:
        """Return this rank's part of a list. Parts are contiguous: the parts of all ranks, concatenated in order, are the list."""
        share = own_partition([1] * len(items), self.models.ranks)
        return items[share.start : share.stop]


def choose_questions(questions: Sequence[Item], config: GRPOConfig, iteration: int, step: int, count: int | None = None) -> list[Item]:
    """Choose the questions of a step. The choice depends only on the seed, the iteration and the step, which count from 1.

    All questions are used once, in a random order, before any is used again; this order continues across iterations. `count` is the number
    of questions, by default `config.prompts_per_step`. Other items, such as pairs of a question and its solution, can be chosen in the same
    way.
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
    """Return one seed for each place in a step. A question that is used again, even in the same step, gets another seed."""
    return [derive_seed(config.seed, "grpo", iteration, step, place) for place in range(config.prompts_per_step)]
