"""Reward data: solutions of the policy of the day with labels, as Parquet; which of it is held out, and which is replayed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from data.errors import MathQuarryError
from data.files import atomic_path
from data.grade.checker import Checker
from data.workspace import Workspace
from models.config import RewardConfig
from models.label import Solution, decode_outputs, label_steps
from models.packing import Labelled
from models.questions import Question
from models.rollout.engine import RolloutEngine
from models.seeds import derive_seed
from models.steps import StepMarker

FILE = "reward_data.parquet"
QUESTIONS_A_PART = 256
"""Questions sampled and labelled between two files that an interrupted run keeps."""

SCHEMA = pa.schema(
    [
        ("iteration", pa.int32()),
        ("problem_id", pa.string()),
        ("prompt", pa.list_(pa.int32())),
        ("output", pa.list_(pa.int32())),
        ("step_ends", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.float32())),
        ("correct", pa.bool_()),
        ("finished", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class RewardExample:
    """A solution with its labels: one for each of `step_ends`, or a single one for the last token (outcome supervision)."""

    iteration: int
    problem_id: str
    prompt: list[int]
    output: list[int]
    step_ends: list[int]
    labels: list[float]
    correct: bool
    finished: bool

    @property
    def label_ends(self) -> list[int]:
        """Indices into `output` that the labels belong to."""
        return self.step_ends[-len(self.labels) :]

    def tokens_and_labels(self) -> Labelled:
        """Prompt and output as a training example; NaN where there is no label."""
        tokens = [*self.prompt, *self.output]
        labels = [math.nan] * len(tokens)
        for end, label in zip(self.label_ends, self.labels, strict=True):
            labels[len(self.prompt) + end] = label
        return tokens, labels


def choose(questions: Sequence[Question], count: int, seed: int, iteration: int) -> list[Question]:
    """`count` different questions (all of them, if there are fewer), drawn from (seed, iteration)."""
    order = np.random.default_rng([seed, iteration]).permutation(len(questions))
    return [questions[place] for place in order[:count].tolist()]


def make_reward_data(
    config: RewardConfig,
    questions: Sequence[Question],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    iteration: int,
    space: Workspace,
) -> list[RewardExample]:
    """Sample, grade and label solutions of `questions` and write them to `space.out / "reward_data.parquet"`.

    Repeated outputs of a question are dropped, as Math-Shepherd does. Finished parts in `space.scratch` are used again. The result
    depends on the config, the questions, the engine's weights and the iteration alone.
    """
    marker = StepMarker(tokenizer)
    folder = space.scratch / "reward_data"
    starts = range(0, len(questions), QUESTIONS_A_PART)
    parts = [folder / f"part-{index:05d}.parquet" for index in range(len(starts))]
    done = sum(len(questions[start : start + QUESTIONS_A_PART]) for start, part in zip(starts, parts, strict=True) if part.exists())
    with Checker(config.grade) as checker, space.progress.track("reward data", len(questions), "question", done) as bar:
        for start, part in zip(starts, parts, strict=True):
            if part.exists():
                continue
            chunk = questions[start : start + QUESTIONS_A_PART]
            solutions = _sample(config, chunk, engine, tokenizer, marker, iteration, checker)
            write_reward_data(part, _label(config, solutions, engine, tokenizer, iteration, checker))
            bar.advance(len(chunk))
    examples = [example for part in parts for example in read_reward_data(part)]
    write_reward_data(space.out / FILE, examples)
    return examples


def write_reward_data(path: Path, examples: Sequence[RewardExample]) -> None:
    """Write examples as Parquet, atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist([asdict(example) for example in examples], SCHEMA), temporary)


def read_reward_data(path: Path) -> list[RewardExample]:
    """Read what `write_reward_data` wrote. Raises `MathQuarryError` when the file is missing or holds something else."""
    try:
        table = pq.read_table(path, schema=SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise MathQuarryError(f"{path} is no reward data: {error}. Run the reward stage again.") from error
    return [RewardExample(**row) for row in table.to_pylist()]


def is_validation(problem_id: str, share: float) -> bool:
    """Whether a problem is held out to measure reward models. Depends on its id alone, so the answer is the same in all iterations."""
    return int.from_bytes(blake2b(problem_id.encode(), digest_size=8).digest()) < share * 2**64


def split(examples: Sequence[RewardExample], share: float) -> tuple[list[RewardExample], list[RewardExample]]:
    """(training, validation) examples; the validation problems are about `share` of all problems."""
    training: list[RewardExample] = []
    validation: list[RewardExample] = []
    for example in examples:
        (validation if is_validation(example.problem_id, share) else training).append(example)
    return training, validation


def draw_replay(history: Sequence[RewardExample], fresh: int, share: float, seed: int, iteration: int) -> list[RewardExample]:
    """Earlier training examples to mix with `fresh` new ones, so that they make up `share` of both together (paper: 10 %).

    Drawn without repetition from (seed, iteration); all of `history` if it is too small. Raises `MathQuarryError` for share 1.
    """
    if share >= 1:
        raise MathQuarryError("refresh.replay_share is 1, which leaves no room for new data. Lower it (paper: 0.1).")
    count = min(len(history), round(fresh * share / (1 - share)))
    places = np.random.default_rng([seed, iteration]).permutation(len(history))[:count]
    return [history[place] for place in sorted(places.tolist())]


def _sample(
    config: RewardConfig,
    questions: Sequence[Question],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    marker: StepMarker,
    iteration: int,
    checker: Checker,
) -> list[Solution]:
    """Graded solutions of some questions, each output of a question once."""
    sampled = engine.generate(
        [question.prompt for question in questions],
        n=config.outputs_per_question,
        temperature=config.rollout.temperature,
        max_tokens=config.rollout.max_tokens,
        seeds=[derive_seed(config.seed, "reward data", iteration, question.problem.id) for question in questions],
    )
    kept = [
        (question, output)
        for question, outputs in zip(questions, sampled, strict=True)
        for output in {tuple(output.tokens): output for output in outputs}.values()
    ]
    texts = decode_outputs(tokenizer, [output.tokens for _, output in kept])
    verdicts = checker.grade_many([(text, question.problem.answer) for text, (question, _) in zip(texts, kept, strict=True)])
    return [
        Solution(
            question.problem.id,
            question.problem.answer,
            question.prompt,
            output.tokens,
            marker.ends(output.tokens),
            output.finished,
            output.finished and verdict.correct,
        )
        for (question, output), verdict in zip(kept, verdicts, strict=True)
    ]


def _label(
    config: RewardConfig,
    solutions: list[Solution],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    iteration: int,
    checker: Checker,
) -> list[RewardExample]:
    if config.supervision == "process":
        seed = derive_seed(config.seed, iteration)
        labels = label_steps(solutions, engine, checker.grade_many, tokenizer, config.label, config.rollout, seed)
    else:
        labels = [[float(solution.correct)] for solution in solutions]
    return [
        RewardExample(iteration, s.problem_id, s.prompt, s.output, s.step_ends, row, s.correct, s.finished)
        for s, row in zip(solutions, labels, strict=True)
    ]


def read_history(folders: Sequence[Path]) -> Iterator[RewardExample]:
    """All examples of earlier reward artifacts, oldest first."""
    for folder in folders:
        yield from read_reward_data(folder / FILE)
