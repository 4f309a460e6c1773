"""Flow `problems`: the training questions and the evaluation-only questions."""

from __future__ import annotations

import mathquarry.tasks.problems
from mathquarry.data.problems.config import ProblemsConfig
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import stage_flow
from mathquarry.tasks.stage import StageResult


@stage_flow("problems", mathquarry.tasks.problems.problems)
def problems_flow(store: str, config: ProblemsConfig, mode: BuildMode = "reuse") -> StageResult:
    """Load or generate the problem sets.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.problems.problems(store, config, mode)
