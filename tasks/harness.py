"""Task `harness`: benchmarks of lm-evaluation-harness (paper Table 4)."""

from __future__ import annotations

from prefect import task

from data.store import BuildMode
from models.config import HarnessConfig
from tasks.stage import Produced, produce

VERSION = 1


@task(name="harness")
def harness(store: str, config: HarnessConfig, policy: str, mode: BuildMode = "reuse") -> Produced:
    """Artifact: `results.json`, and every sample with its score."""
    from models.harness import harness_version, run_harness

    return produce(
        store,
        "harness",
        VERSION,
        {"harness": config, "lm_eval": harness_version()},
        {"policy": policy},
        lambda space, inputs: run_harness(config, inputs["policy"] / "model", space),
        sources=[folder for folder in (config.data, config.definitions) if folder],
        mode=mode,
    )
