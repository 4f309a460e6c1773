"""Reward data: labelled solutions of the current policy. Splits off held-out questions, and draws replay."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.checker import Checker
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_tokenizer
from mathquarry.models.policy.questions import Question
from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.ranks.launch import share_out
from mathquarry.models.reward.config import RefreshConfig, ReplayOf, RewardConfig
from mathquarry.models.reward.examples import (
    SCHEMA,
    RewardExample,
    RewardExamples,
    read_places,
    read_problem_ids,
    write_mapped,
    write_reward_data,
)
from mathquarry.models.reward.label import Solution, decode_completions, label_steps
from mathquarry.models.reward.rollouts import GradedRollouts
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.seeds import derive_seed

FILE = "reward_data.parquet"
QUESTIONS_A_PART = 256
"""Questions per part. Finished parts are kept if a run is interrupted."""


def choose(questions: Sequence[Question], count: int, seed: int, iteration: int) -> list[Question]:
    """Return `count` different questions (all, if there are fewer), drawn from (seed, iteration)."""
    order = np.random.default_rng([seed, iteration]).permutation(len(questions))
    return [questions[place] for place in order[:count].tolist()]


def make_reward_data(
    config: RewardConfig,
    questions: Sequence[Question],
    policy: Path,
    iteration: int,
    workspace: Workspace,
    engine: RolloutEngine | None = None,
    rollouts: GradedRollouts | None = None,
) -> RewardExamples:
    """Sample, grade and label solutions of `questions` and write them to `workspace.out / "reward_data.parquet"`.

    The processes of `config.ranks` share the questions. Each has its own engine for the checkpoint `policy`. If `engine` is given, it
    samples all questions instead. If `rollouts` are given, these are the solutions, with their verdicts, and an engine is only used to
    label steps. Repeated completions of a question are dropped, as in Math-Shepherd. Finished parts in
    `workspace.scratch` are reused. The result depends only on the config, the questions, the policy and the iteration. It is memory-mapped
    from a file in `workspace.scratch`.
    """
    starts = range(0, len(questions), QUESTIONS_A_PART)
    parts = [Part(f"reward_data/part-{start:07d}.parquet", questions[start : start + QUESTIONS_A_PART]) for start in starts]
    missing = [part for part in parts if not (workspace.scratch / part.file).exists()]
    done = len(questions) - sum(len(part.questions) for part in missing)
    if engine is not None or not _generates(config, rollouts):
        make_parts(workspace, missing, config, policy, iteration, done, rollouts, engine)
    else:
        arguments = (config, policy.resolve(), iteration, done, rollouts)
        share_out(make_parts, missing, arguments, config.ranks, workspace, "reward data", config.rollout.tensor_parallel)
    examples = write_mapped(workspace.scratch / "reward_data" / "all.arrow", [workspace.scratch / part.file for part in parts])
    write_reward_data(workspace.out / FILE, examples)
    return examples


@dataclass(frozen=True)
class Part:
    """Questions whose solutions are made and labelled together, and the name of the file with their examples."""

    file: str
    questions: Sequence[Question]


def make_parts(
    workspace: Workspace,
    parts: Sequence[Part],
    config: RewardConfig,
    policy: Path,
    iteration: int,
    done: int,
    rollouts: GradedRollouts | None = None,
    engine: RolloutEngine | None = None,
) -> None:
    """The work of each process: make the examples of its parts. `done` questions were finished by an earlier run."""
    if not parts:
        return
    tokenizer = load_tokenizer(policy)
    marker = StepMarker(tokenizer)
    given: AbstractContextManager[RolloutEngine | None] = nullcontext(engine)
    if engine is None and _generates(config, rollouts):
        given = closing(make_engine(config.rollout, policy, alone=True))
    with (
        given as used,
        Checker(config.grade) as checker,
        workspace.progress.track("reward data", done + sum(len(part.questions) for part in parts), "question", done) as bar,
    ):
        for part in parts:
            if rollouts is None:
                assert used is not None, "an engine samples"
                solutions = _sample(config, part.questions, used, tokenizer, marker, iteration, checker)
            else:
                solutions = rollouts.solutions(part.questions)
            write_reward_data(workspace.scratch / part.file, _label(config, solutions, used, tokenizer, iteration, checker))
            bar.advance(len(part.questions))


def _generates(config: RewardConfig, rollouts: GradedRollouts | None) -> bool:
    """Whether the reward data needs an engine: to sample solutions, or to complete their prefixes."""
    return rollouts is None or config.supervision == "process"


def is_validation(problem_id: str, share: float) -> bool:
    """Whether a problem is held out for evaluating reward models. Depends only on its id, so it is the same in all iterations."""
    return int.from_bytes(blake2b(problem_id.encode(), digest_size=8).digest()) < share * 2**64


def split(examples: RewardExamples, share: float) -> tuple[RewardExamples, RewardExamples]:
    """Split examples into (training, validation). The validation problems are about `share` of all problems."""
    held_out = _held_out(examples.column("problem_id"), share)
    return examples.select(np.flatnonzero(~held_out)), examples.select(np.flatnonzero(held_out))


def _held_out(problem_ids: pa.ChunkedArray, share: float) -> np.ndarray:
    """Return a mask of the examples that belong to validation problems."""
    names = problem_ids.unique()
    held_out = [name for name in names.to_pylist() if is_validation(name, share)]
    return pc.is_in(problem_ids, pa.array(held_out, pa.string())).to_numpy()


def replay_count(history: int, fresh: int, share: float, replay_of: ReplayOf) -> int:
    """Return how many of `history` earlier training examples are mixed with `fresh` new ones.

    `mix`: the replayed examples are `share` of the mix; `history`: they are `share` of the earlier ones. If there are too few, all are
    used. Raises `MathQuarryError` for share 1 of the mix.
    """
    if replay_of == "history":
        return round(history * share)
    if share >= 1:
        raise MathQuarryError("refresh.replay_share is 1, which leaves no room for new data. Lower it (paper: 0.1).")
    return min(history, round(fresh * share / (1 - share)))


def draw_replay(
    folders: Sequence[Path], fresh: int, refresh: RefreshConfig, validation_share: float, seed: int, iteration: int
) -> RewardExamples:
    """Draw earlier training examples to mix with `fresh` new ones (paper: 10 %), from all artifacts in `folders`, oldest first.

    Drawn without replacement from (seed, iteration). Only the problem ids of each artifact are read, then the rows that were drawn. Raises
    `MathQuarryError` if a file cannot be read, or if the share leaves no room for new data.
    """
    files = [folder / FILE for folder in folders]
    training = [np.flatnonzero(~_held_out(read_problem_ids(file), validation_share)) for file in files]
    total = sum(map(len, training))
    count = replay_count(total, fresh, refresh.replay_share, refresh.replay_of)
    drawn = np.sort(np.random.default_rng([seed, iteration]).permutation(total)[:count])
    tables, start = [SCHEMA.empty_table()], 0
    for file, places in zip(files, training, strict=True):
        tables.append(read_places(file, places[drawn[(drawn >= start) & (drawn < start + len(places))] - start]))
        start += len(places)
    return RewardExamples(pa.concat_tables(tables))


def _sample(
    config: RewardConfig,
    questions: Sequence[Question],
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    marker: StepMarker,
    iteration: int,
    checker: Checker,
) -> list[Solution]:
    """Sample and grade solutions of some questions. Equal completions of a question are kept once."""
    sampled = engine.generate(
        [question.prompt for question in questions],
        n=config.group_size,
        temperature=config.rollout.temperature,
        max_tokens=config.rollout.max_tokens,
        seeds=[derive_seed(config.seed, "reward data", iteration, question.problem.id) for question in questions],
    )
    kept = [
        (question, completion)
        for question, completions in zip(questions, sampled, strict=True)
        for completion in {tuple(completion.tokens): completion for completion in completions}.values()
    ]
    texts = decode_completions(tokenizer, [completion.tokens for _, completion in kept])
    verdicts = checker.grade_many([(text, question.problem.answer) for text, (question, _) in zip(texts, kept, strict=True)])
    return [
        Solution(
            question.problem.id,
            question.problem.answer,
            question.prompt,
            completion.tokens,
            marker.ends(completion.tokens),
            completion.finished,
            completion.finished and verdict.correct,
        )
        for (question, completion), verdict in zip(kept, verdicts, strict=True)
    ]


def _label(
    config: RewardConfig,
    solutions: list[Solution],
    engine: RolloutEngine | None,
    tokenizer: PreTrainedTokenizerBase,
    iteration: int,
    checker: Checker,
) -> list[RewardExample]:
    if config.supervision == "process":
        assert engine is not None, "an engine completes prefixes"
        seed = derive_seed(config.seed, iteration)
        labels = label_steps(solutions, engine, checker.grade_many, tokenizer, config.label, config.rollout, seed)
    else:
        labels = [[float(solution.correct)] for solution in solutions]
    return [
        RewardExample(iteration, s.problem_id, s.prompt, s.completion, s.step_ends, row, s.correct, s.finished)
        for s, row in zip(solutions, labels, strict=True)
    ]
