"""Flow `report`: one self-contained page about a run."""

from __future__ import annotations

from typing import Any

import tasks.report
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from tasks.stage import Produced


@stage_flow("report", tasks.report.report)
def report_flow(store: str, run: dict[str, Any], stages: dict[str, ArtifactRef], mode: BuildMode = "reuse") -> Produced:
    """Write the report of a run.

    Args:
        store: Folder or fsspec URL of the artifacts.
        run: The run's record: id, recipe, times and config.
        stages: Name in the run -> reference.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.report.report(store, run, stages, mode)
