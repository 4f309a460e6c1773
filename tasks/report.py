"""Task `report`: one self-contained page about the artifacts of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from mathquarry.data.store.store import BuildMode, Store
from mathquarry.data.store.workspace import Workspace
from mathquarry.tasks.stage import StageResult, produce

if TYPE_CHECKING:
    from mathquarry.data.report.page.artifact import ReportArtifact

VERSION = 4


@task(name="report")
def report(store: str, run: dict[str, Any], stages: dict[str, str], mode: BuildMode = "reuse") -> StageResult:
    """Artifact: `report.html`. `stages` maps names in the run ("grpo-1") to references."""

    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, Any]:
        from mathquarry.data.report.build import build_report

        return build_report(run, report_artifacts(store, stages), workspace.out)

    return produce(store, "report", VERSION, {"recipe": run["recipe"]}, stages, work, mode=mode)


def report_artifacts(store: str, stages: dict[str, str]) -> list[ReportArtifact]:
    """The artifacts that the report reads, in the order of the run."""
    from mathquarry.data.report.page.artifact import ReportArtifact

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
