"""Flow `curate`: solutions in three formats."""

from __future__ import annotations

import tasks.curate
from data.config import CurateConfig
from data.store import BuildMode
from flows.stage import ArtifactRef, stage_flow
from tasks.stage import Produced


@stage_flow("curate", tasks.curate.curate)
def curate_flow(store: str, config: CurateConfig, problems: ArtifactRef, mode: BuildMode = "reuse") -> Produced:
    """Turn a `problems` artifact into fine-tuning examples.

    Args:
        store: Folder or fsspec URL of the artifacts.
        config: Settings of the stage; the defaults are the paper's.
        problems: `problems` artifact.
        mode: reuse: make it only if it is missing; rebuild: make it again; require: fail if it is missing.
    """
    return tasks.curate.curate(store, config, problems, mode)
