"""Flow `curate`: solutions in three formats."""

from __future__ import annotations

import mathquarry.tasks.curate
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.store.store import BuildMode
from mathquarry.flows.stages.stage import ArtifactRef, stage_flow
from mathquarry.tasks.stage import StageResult


@stage_flow("curate", mathquarry.tasks.curate.curate)
def curate_flow(store: str, config: CurateConfig, problems: ArtifactRef, mode: BuildMode = "reuse") -> StageResult:
    """Turn a `problems` artifact into fine-tuning examples.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        problems: `problems` artifact.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return mathquarry.tasks.curate.curate(store, config, problems, mode)
