"""Task `report`: one self-contained page about the artifacts of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from data.report.build import ReportArtifact, build_report
from data.store import BuildMode, Store
from tasks.stage import Produced, produce

VERSION = 4


@task(name="report")
def report(store: str, run: dict[str, Any], stages: dict[str, str], mode: BuildMode = "reuse") -> Produced:
    """Artifact: `report.html`. `stages` maps names in the run ("grpo-1") to references."""
    return produce(
        store,
        "report",
        VERSION,
        {"recipe": run["recipe"]},
        stages,
        lambda space, inputs: build_report(run, report_artifacts(store, stages), space.out),
        mode=mode,
    )


def report_artifacts(store: str, stages: dict[str, str]) -> list[ReportArtifact]:
    """What the report reads, in the order of the run."""
    shop = Store(store)
    rows = []
    for name, reference in stages.items():
        artifact = shop.get(*reference.split("/"))
        manifest = artifact.manifest
        rows.append(
            ReportArtifact(
                name=name,
                stage=artifact.stage,
                key=artifact.key,
                path=Path(artifact.path),
                config=manifest["config"],
                summary=manifest["summary"],
                inputs=manifest["inputs"],
                seconds=manifest["seconds"],
                reused=artifact.reused,
            )
        )
    return rows
