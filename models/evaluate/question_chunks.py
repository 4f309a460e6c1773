"""Sample many questions in chunks, in one process or several. Finished chunks are kept, and an interrupted run continues after them.

A chunk depends on the config alone. So its completions are the same to the last bit, whichever process samples them: other batch sizes
would round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.files import atomic_path
from mathquarry.data.problems.problem import Problem
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.data.store.workspace import Bar, Workspace
from mathquarry.models.evaluate.config import EvaluateConfig, RejectionConfig
from mathquarry.models.evaluate.sample_and_grade import GradedSampler
from mathquarry.models.ranks.launch import share_out

CHUNK_QUESTIONS = 128
CHUNK_COMPLETIONS = 4096
"""Maximum questions, and approximate number of completions, per chunk: enough to fill an engine's batch, and few enough to share the work
evenly among many processes."""

AskChunk = Callable[[GradedSampler, SolutionFormat, list[Problem], Bar], pa.Table]
"""Samples the questions of a chunk in one format, and returns one row per completion. Importable by name, since other processes call it."""


@dataclass(frozen=True)
class Chunk:
    """Questions that are sampled together, and the name of the file with their rows."""

    format: SolutionFormat
    file: str
    problems: list[Problem]


def ask_in_chunks(
    policy: Path,
    config: EvaluateConfig | RejectionConfig,
    problems: Sequence[Problem],
    group_size: int,
    schema: pa.Schema,
    ask: AskChunk,
    workspace: Workspace,
    stage: str,
) -> dict[SolutionFormat, pa.Table]:
    """Return the rows of all questions in each of `config.formats`, in order. Finished chunks are kept in `workspace.scratch`.

    The chunks are shared among `config.ranks`. The `GradedSampler` is only started if a chunk is missing. Raises the errors of
    `GradedSampler` and of `share_out`.
    """
    size = max(1, min(CHUNK_QUESTIONS, CHUNK_COMPLETIONS // group_size))
    chunks = [
        Chunk(format, f"{stage}-{format}-{start:07d}-{size}.parquet", list(problems[start : start + size]))
        for format in config.formats
        for start in range(0, len(problems), size)
    ]
    missing = [chunk for chunk in chunks if not (workspace.scratch / chunk.file).exists()]
    done = sum(len(chunk.problems) for chunk in chunks if chunk not in missing) * group_size
    share_out(
        ask_chunks,
        missing,
        (policy.resolve(), config, group_size, ask, stage, done),
        config.ranks,
        workspace,
        stage,
        config.rollout.tensor_parallel,
    )
    return {
        format: pa.concat_tables(
            [pq.read_table(workspace.scratch / chunk.file, schema=schema) for chunk in chunks if chunk.format == format]
        )
        for format in config.formats
    }


def ask_chunks(
    workspace: Workspace,
    chunks: Sequence[Chunk],
    policy: Path,
    config: EvaluateConfig | RejectionConfig,
    group_size: int,
    ask: AskChunk,
    stage: str,
    done: int,
) -> None:
    """The work of each process: sample its chunks and write their rows. `done` completions were made by an earlier run."""
    if not chunks:
        return
    completions = sum(len(chunk.problems) for chunk in chunks) * group_size
    with (
        GradedSampler(policy, [chunk.format for chunk in chunks], config.rollout, config.tools, config.grade) as sampler_and_grader,
        workspace.progress.track(stage, done + completions, "completion", done) as bar,
    ):
        for chunk in chunks:
            with atomic_path(workspace.scratch / chunk.file) as temporary:
                pq.write_table(ask(sampler_and_grader, chunk.format, chunk.problems, bar), temporary)
