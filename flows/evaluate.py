"""Flow `evaluate`: greedy accuracy, Pass@K and Maj@K."""

from __future__ import annotations

from prefect import flow

import tasks.evaluate
from data.store import BuildMode
from models.config import EvaluateConfig
from tasks.stage import Produced


@flow(name="evaluate", flow_run_name="evaluate")
def evaluate_flow(store: str, config: EvaluateConfig, policy: str, problems: str, mode: BuildMode = "reuse") -> Produced:
    """Score a policy on the held-out questions of a `problems` artifact."""
    return tasks.evaluate.evaluate(store, config, policy, problems, mode)
