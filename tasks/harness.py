"""Task `harness`: benchmarks of lm-evaluation-harness (paper Table 4)."""

from __future__ import annotations

from prefect import task

from mathquarry.data.store.store import BuildMode
from mathquarry.models.evaluate.config import HarnessConfig
from mathquarry.tasks.stage import StageResult, produce

VERSION = 1


@task(name="harness")
def harness(store: str, config: HarnessConfig, policy: str, mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `results.json`, and every sample with its score."""
    from mathquarry.models.evaluate.harness import harness_version, run_harness

    return produce(
        store,
        "harness",
        VERSION,
        {"harness": config, "lm_eval": harness_version()},
        {"policy": policy},
        lambda workspace, inputs: run_harness(config, inputs["policy"] / "model", workspace),
        sources=[folder for folder in (config.data, config.definitions) if folder],
        mode=mode,
    )
