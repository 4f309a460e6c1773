"""Flow `problems`: the questions that are trained on, and the ones that are only scored."""

from __future__ import annotations

from prefect import flow

import tasks.problems
from data.config import ProblemsConfig
from data.store import BuildMode
from tasks.stage import Produced


@flow(name="problems", flow_run_name="problems")
def problems_flow(store: str, config: ProblemsConfig, mode: BuildMode = "reuse") -> Produced:
    """Load or generate the problem sets."""
    return tasks.problems.problems(store, config, mode)
