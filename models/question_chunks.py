"""Asking many questions in chunks: what a finished chunk found is kept, and an interrupted run goes on after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.config import SolutionFormat
from data.files import atomic_path
from data.problems.problem import Problem
from data.workspace import Bar, Workspace
from models.config import EvaluateConfig, RejectionConfig
from models.examine import Examiner

CHUNK_QUESTIONS = 128
"""Questions between two files that an interrupted run finds again."""

AskChunk = Callable[[Examiner, SolutionFormat, list[Problem], Bar], pa.Table]
"""Asks the questions of a chunk in one format, and gives a row for each output."""


def ask_in_chunks(
    policy: Path,
    config: EvaluateConfig | RejectionConfig,
    problems: Sequence[Problem],
    outputs_per_question: int,
    schema: pa.Schema,
    ask: AskChunk,
    space: Workspace,
    stage: str,
) -> dict[SolutionFormat, pa.Table]:
    """The rows of all questions in each of `config.formats`, in order. Finished chunks lie in `space.scratch`.

    Raises what the `Examiner` does, which is only started when a chunk is missing.
    """
    chunks = [list(problems[start : start + CHUNK_QUESTIONS]) for start in range(0, len(problems), CHUNK_QUESTIONS)]
    paths = {
        (format, place): space.scratch / f"{stage}-{format}-{place:05d}.parquet"
        for format in config.formats
        for place in range(len(chunks))
    }
    missing = [part for part, path in paths.items() if not path.exists()]
    if missing:
        outputs = len(problems) * outputs_per_question * len(config.formats)
        done = outputs - sum(len(chunks[place]) for _, place in missing) * outputs_per_question
        with (
            Examiner(policy, [format for format, _ in missing], config.rollout, config.tools, config.grade) as examiner,
            space.progress.track(stage, outputs, "output", done) as bar,
        ):
            for format, place in missing:
                with atomic_path(paths[format, place]) as temporary:
                    pq.write_table(ask(examiner, format, chunks[place], bar), temporary)
    return {
        format: pa.concat_tables([pq.read_table(paths[format, place], schema=schema) for place in range(len(chunks))])
        for format in config.formats
    }
