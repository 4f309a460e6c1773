"""The table of a run's completions in Parquet: one file per step, joined when the iteration ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.files import atomic_path
from mathquarry.models.rl.rewards.completions import call_rows
from mathquarry.models.rl.rollouts import Rollouts
from mathquarry.models.rl.tools import CALLS, MASK

SCHEMA = pa.schema(
    [
        ("iteration", pa.int32()),
        ("step", pa.int32()),
        ("problem_id", pa.string()),
        ("question", pa.string()),
        ("group", pa.int32()),
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("completion", pa.list_(pa.int32())),
        ("step_ends", pa.list_(pa.int32())),
        ("step_rewards", pa.list_(pa.float32())),
        ("reward", pa.float32()),
        ("advantage", pa.list_(pa.float32())),
        ("correct", pa.bool_()),
        ("finished", pa.bool_()),
        ("gold", pa.string()),
    ]
)


VERSION = pa.field("version", pa.string())
"""Name of the weights that sampled the completion, if completions are sampled ahead."""
REWARDS = pa.field("rewards", pa.map_(pa.string(), pa.list_(pa.float32())))


def _schema(columns: Iterable[str]) -> pa.Schema:
    """Return the schema with the optional columns that are among `columns`."""
    names = set(columns)
    return pa.schema([*SCHEMA, *(column for column in (REWARDS, MASK, CALLS, VERSION) if column.name in names)])


def write_rollouts(path: Path, rollouts: Rollouts, iteration: int, step: int) -> None:
    """Write the completions of a step as Parquet, atomically. Column `advantage` has the advantages at the tokens with a reward.

    Some columns are optional: `rewards` has the values of each reward in `grpo.rewards`, `mask` and `calls` belong to dialogues with tools,
    and `version` to completions that were sampled ahead.
    """
    size = rollouts.group_size
    rows = [
        {
            "iteration": iteration,
            "step": step,
            "problem_id": one.question.problem.id,
            "question": one.question.problem.question,
            "group": place // size,
            "sample": place % size,
            "text": one.text,
            "completion": one.completion,
            "step_ends": one.step_ends,
            "step_rewards": one.rewards,
            "reward": one.rewards[-1],
            "advantage": rollouts.advantages_BT[place, one.step_ends[-len(one.rewards) :]].tolist(),
            "correct": one.correct,
            "finished": one.finished,
            "gold": one.question.problem.answer,
            **({REWARDS.name: one.parts} if one.parts else {}),
            **({} if one.mask is None else {MASK.name: one.mask, CALLS.name: call_rows(one.calls)}),
            **({} if one.version is None else {VERSION.name: one.version}),
        }
        for place, one in enumerate(rollouts.rows)
    ]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, _schema(rows[0])), temporary)


def join_rollouts(parts: Sequence[Path], path: Path) -> int:
    """Join the files of all steps into one file with a row group per step. Returns the number of completions."""
    count = 0
    schema = _schema(pq.read_schema(parts[0]).names)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            table = pq.read_table(part, schema=schema)
            writer.write_table(table)
            count += len(table)
    return count
