"""Task `problems`: load or generate the training questions and the evaluation-only questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from mathquarry.data.problems.config import ProblemFiles, ProblemsConfig
from mathquarry.data.store.store import BuildMode
from mathquarry.data.store.workspace import Workspace
from mathquarry.tasks.stage import StageResult, produce

VERSION = 4


@task(name="problems")
def problems(store: str, config: ProblemsConfig, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `train.jsonl`, `test.jsonl`, `benchmarks.jsonl`."""
    source, files = config.source, []
    if isinstance(source, ProblemFiles):
        from mathquarry.data.problems.registry import found_in

        files = found_in(source)

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.data.problems.build import build_problems

        return build_problems(config, workspace)

    return produce(
        store,
        "problems",
        VERSION,
        {"problems": config},
        {},
        work,
        sources=[*files, *config.benchmarks],
        mode=mode,
    )
