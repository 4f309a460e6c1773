"""Flow `report`: one self-contained page about a run."""

from __future__ import annotations

from typing import Any

import mathquarry.tasks.report
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.tasks.stage import StageResult


@stage_flow("report", mathquarry.tasks.report.report)
def report_flow(store: str, run: dict[str, Any], stages: dict[str, ArtifactRef], mode: BuildMode = "reuse") -> StageResult:
    """Write the report of a run.

    Args:
        store: Folder or fsspec URL of the artifacts.
        run: The run's record: id, recipe, times and config.
        stages: Name in the run -> reference.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.report.report(store, run, stages, mode)
