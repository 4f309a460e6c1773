"""The outputs of one step: which questions, what was sampled, how it was judged, and how it is written down.

An output that was cut before its end token is scored as it is, at its last token; the checker counts it as wrong. Its verdict is measured
beside the reward and never used for the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from data.files import atomic_path
from models.config import GRPOConfig
from models.questions import Question
from models.reward import area_under_curve
from models.seeds import derive_seed

Chosen = TypeVar("Chosen")

SCHEMA = pa.schema(
    [
        ("iteration", pa.int32()),
        ("step", pa.int32()),
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("group", pa.int32()),
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("output", pa.list_(pa.int32())),
        ("step_ends", pa.list_(pa.int32())),
        ("step_rewards", pa.list_(pa.float32())),
        ("reward", pa.float32()),
        ("advantage", pa.list_(pa.float32())),
        ("correct", pa.bool_()),
        ("finished", pa.bool_()),
        ("gold", pa.string()),
    ]
)


@dataclass(frozen=True)
class Rollouts:
    """All outputs of a step, the G of a question in a row. Every list has one entry an output, except `questions`."""

    questions: list[Question]
    outputs: list[list[int]]
    logprobs: list[list[float]] | None  # with which the engine drew the tokens; none for worked solutions
    finished: list[bool]
    texts: list[str]
    correct: list[bool]
    step_ends: list[list[int]]
    rewards: list[list[float]]  # at each step end (process) or at the last token alone (outcome)
    advantages_BT: torch.Tensor  # the gradient coefficient of each token; for GRPO its advantage

    @property
    def group_size(self) -> int:
        """Outputs a question, G."""
        return len(self.outputs) // len(self.questions)

    @property
    def prompts(self) -> list[list[int]]:
        """The prompt of each output."""
        return [question.prompt for question in self.questions for _ in range(self.group_size)]


def choose_questions(questions: Sequence[Chosen], config: GRPOConfig, iteration: int, step: int, count: int | None = None) -> list[Chosen]:
    """The questions of a step (iterations and steps count from 1): a function of the seed and these numbers alone.

    `count` is their number, `config.questions_per_step` unless given. Things other than questions are chosen alike.

    Steps walk through all questions in a random order before any comes again, over the iterations too.
    """
    count = count or config.questions_per_step
    first = ((iteration - 1) * config.steps + step - 1) * count
    chosen: list[Chosen] = []
    orders: dict[int, np.ndarray] = {}
    for place in range(first, first + count):
        epoch, index = divmod(place, len(questions))
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([config.seed, epoch]).permutation(len(questions))
        chosen.append(questions[int(orders[epoch][index])])
    return chosen


def sampling_seeds(config: GRPOConfig, iteration: int, step: int) -> list[int]:
    """One seed for each place of a step, so that a question that comes again, even in the same step, is sampled anew."""
    return [derive_seed(config.seed, "grpo", iteration, step, place) for place in range(config.questions_per_step)]


def measure_rollouts(rollouts: Rollouts) -> dict[str, float | None]:
    """Figures of a step: rewards beside the true accuracy, lengths, and what kinds of groups there were.

    `reward` is the last token's score, `step_reward` the mean over all step ends, `accuracy` the checker's verdict and `reward_auc` how
    well the reward tells right outputs from wrong ones (`None` when all are alike). Of the groups, `groups_all_right`, `groups_all_wrong`
    and `groups_mixed` go by the verdict, `groups_flat` have no advantage at all. Of the tokens' advantages, `advantage_size` is the mean
    |advantage|, `advantage_std` their spread. `entropy` is the mean of -log p at the sampled tokens, which estimates the entropy of the
    distribution they were drawn from.
    """
    last = [row[-1] for row in rollouts.rewards]
    steps = [reward for row in rollouts.rewards for reward in row]
    lengths = [len(output) for output in rollouts.outputs]
    size, count = rollouts.group_size, len(rollouts.outputs)
    right = [sum(rollouts.correct[start : start + size]) for start in range(0, count, size)]
    flat = [bool((rollouts.advantages_BT[start : start + size] == 0).all()) for start in range(0, count, size)]
    groups = len(right)
    inside_BT = torch.arange(rollouts.advantages_BT.shape[1]) < torch.tensor(lengths)[:, None]
    advantages_N = rollouts.advantages_BT[inside_BT].double()
    surprise = None if rollouts.logprobs is None else -sum(map(sum, rollouts.logprobs)) / sum(lengths)
    return {
        "reward": sum(last) / count,
        "step_reward": sum(steps) / len(steps),
        "accuracy": sum(rollouts.correct) / count,
        "reward_auc": area_under_curve(last, rollouts.correct),
        "entropy": surprise,
        "output_tokens": sum(lengths) / count,
        "output_tokens_shortest": min(lengths),
        "output_tokens_longest": max(lengths),
        "truncated_share": 1 - sum(rollouts.finished) / count,
        "steps_per_output": sum(map(len, rollouts.step_ends)) / count,
        "distinct_share": len({(place // size, tuple(output)) for place, output in enumerate(rollouts.outputs)}) / count,
        "groups_all_right": sum(number == size for number in right) / groups,
        "groups_all_wrong": sum(number == 0 for number in right) / groups,
        "groups_mixed": sum(0 < number < size for number in right) / groups,
        "groups_flat": sum(flat) / groups,
        "advantage_size": float(advantages_N.abs().mean()),
        "advantage_std": float(advantages_N.std(unbiased=False)),
    }


def write_rollouts(path: Path, rollouts: Rollouts, iteration: int, step: int) -> None:
    """Write the outputs of a step as Parquet, atomically. `advantage` is that of each reward's token."""
    size = rollouts.group_size
    rows = [
        {
            "iteration": iteration,
            "step": step,
            "problem_id": question.problem.id,
            "question": question.problem.question,
            "group": place // size,
            "sample": place % size,
            "text": rollouts.texts[place],
            "output": rollouts.outputs[place],
            "step_ends": rollouts.step_ends[place],
            "step_rewards": rollouts.rewards[place],
            "reward": rollouts.rewards[place][-1],
            "advantage": rollouts.advantages_BT[place, rollouts.step_ends[place][-len(rollouts.rewards[place]) :]].tolist(),
            "correct": rollouts.correct[place],
            "finished": rollouts.finished[place],
            "gold": question.problem.answer,
        }
        for place, question in enumerate(question for question in rollouts.questions for _ in range(size))
    ]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary)


def join_rollouts(parts: Sequence[Path], path: Path) -> int:
    """Join the files of all steps into one, a row group a step. Returns the number of outputs."""
    count = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for part in parts:
            table = pq.read_table(part, schema=SCHEMA)
            writer.write_table(table)
            count += len(table)
    return count
