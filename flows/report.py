"""Flow `report`: one self-contained page about a run."""

from __future__ import annotations

from typing import Any

from prefect import flow

import tasks.report
from data.store import BuildMode
from tasks.stage import Produced


@flow(name="report", flow_run_name="report")
def report_flow(store: str, run: dict[str, Any], stages: dict[str, str], mode: BuildMode = "reuse") -> Produced:
    """Write the report over `stages` (name in the run -> reference)."""
    return tasks.report.report(store, run, stages, mode)
