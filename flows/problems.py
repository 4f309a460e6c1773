"""Flow `problems`: the questions that are trained on, and the ones that are only scored."""

from __future__ import annotations

import tasks.problems
from data.config import ProblemsConfig
from data.store import BuildMode
from flows.stage import stage_flow
from tasks.stage import Produced


@stage_flow("problems", tasks.problems.problems)
def problems_flow(store: str, config: ProblemsConfig, mode: BuildMode = "reuse") -> Produced:
    """Load or generate the problem sets.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.problems.problems(store, config, mode)
