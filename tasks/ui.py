"""Prefect UI artifacts of a stage and of a run: a summary, a table of metrics, a chart, and links."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import create_image_artifact, create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_UI_URL

from mathquarry.data.files import read_json
from mathquarry.data.report.page.curves import main_curves
from mathquarry.data.report.page.sketch import sketch
from mathquarry.data.store.artifacts import WARNINGS
from mathquarry.data.store.store import Artifact
from mathquarry.data.store.workspace import MetricLog

logger = logging.getLogger("mathquarry")

PANELS = 4
"""Number of curves in a stage's chart."""


@contextmanager
def server_may_be_away() -> Iterator[None]:
    """Do not fail a stage because of its display: an unreachable server only causes a warning."""
    try:
        yield
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        logger.warning("not shown in the Prefect UI: %s: %s", type(error).__name__, error)


def publish_stage(artifact: Artifact, chart: UUID | None = None) -> None:
    """Show an artifact on the current run's page: what it is, its inputs, its metrics, and their curves, in `chart` if that is there."""
    manifest = artifact.manifest
    name = f"{artifact.stage}-{artifact.key[:8]}"
    metrics = {key: value for key, value in artifact.summary.items() if isinstance(value, int | float | str)}
    create_markdown_artifact(_summary(artifact), key=f"{name}-summary", description=f"{manifest['stage']}: what was made, and from what")
    if metrics:
        rows = [{"metric": key.replace("_", " "), "value": value} for key, value in metrics.items()]
        create_table_artifact(rows, key=f"{name}-metrics", description=f"{manifest['stage']}: metrics")
    show_chart(artifact.stage, name, MetricLog(artifact.path / "metrics.jsonl").read(), chart)
    if artifact.stage == "report" and (address := report_address(artifact.key)):
        create_link_artifact(address, link_text="Open the report", key=f"{name}-link", description="The report of the run")


def show_chart(stage: str, name: str, records: Sequence[dict[str, Any]], chart: UUID | None) -> UUID | None:
    """Draw the main curves of metrics on the current run's page: in the artifact `chart`, or in a new one if there is something to draw.

    Returns the chart's artifact.
    """
    series = main_curves(records, PANELS)
    if not series:
        return chart
    picture = f"data:image/svg+xml;base64,{base64.b64encode(sketch(series).encode()).decode()}"
    description = f"{stage}: {', '.join(series)}, to step {records[-1]['step']:,}"
    if chart is None:
        return cast(UUID, create_image_artifact(picture, key=f"{name}-chart", description=description))
    update_artifact(chart, picture, description)
    return chart


def update_artifact(artifact: UUID, data: str | float, description: str | None = None) -> None:
    """Replace the data of an artifact in place, and its description if there is a new one."""
    changes = {"data": data} if description is None else {"data": data, "description": description}
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate.model_validate(changes))


def publish_run(run_id: str, stages: Mapping[str, str], accuracy: str) -> None:
    """Show a finished run on the current run's page: the artifact of each stage, the accuracies, and the report."""
    report = next((reference.split("/")[1] for reference in stages.values() if reference.startswith("report/")), None)
    address = report_address(report) if report else None
    lines = [f"## Run {run_id}", "", "| stage | artifact |", "|---|---|"]
    lines += [f"| {name} | `{reference}` |" for name, reference in stages.items()]
    if accuracy:
        lines += ["", "```", accuracy, "```"]
    if address:
        lines += ["", f"[Open the report]({address})", "", f"[Lineage: what was made from what]({address}#lineage)"]
        create_link_artifact(address, link_text="Open the report", key=f"run-{run_id}-report", description=f"Report of run {run_id}")
    create_markdown_artifact("\n".join(lines), key=f"run-{run_id}", description=f"Run {run_id}")


def publish_failure(run_id: str, cause: str, first: str, stage: str | None, child: str | None) -> str | None:
    """Show on the current run's page why it failed: the cause, what to do first, the failed stage's run, and where to look further.

    Returns its URL; None if there is no UI.
    """
    failed = f" in stage {stage}" if stage else ""
    lines = [
        f"## Failed{failed}",
        "",
        "**Cause**",
        "",
        *(f"> {MARKUP.sub(escaped, line)}  " for line in cause.splitlines()),
        "",
        f"**First:** {first}",
        "",
    ]
    if child:
        address = ui_address("runs/flow-run", child)
        lines += [f"Then *Retry* in this run's menu: it continues {failed.strip()}, and finished work is not repeated.", ""]
        lines += [f"- [Run of stage {stage}: its logs and metrics]({address})" if address else f"- run of stage {stage}: `{child}`"]
    if reports := os.environ.get("MATHQUARRY_REPORTS_URL"):
        lines += [f"- [Reports of earlier runs]({reports})"]
    lines += ["- lineage of existing artifacts: `docker/up exec cpu-worker mathquarry ledger lineage STAGE`", ""]
    lines += ["docs/faults.md lists failures and what to do about them."]
    page = create_markdown_artifact(
        "\n".join(lines), key=f"failure-{run_id}", description=f"Why this run failed{failed}, and what to do first"
    )
    return ui_address("artifacts/artifact", page)


MARKUP = re.compile(r"[\\`*_\[\]<>#|~]")
"""Characters that mean something in Markdown."""


def escaped(character: re.Match[str]) -> str:
    """A character of `MARKUP` as a letter like others."""
    # A cause may quote text of a web page or a model.
    return f"\\{character[0]}"


def ui_address(page: str, of: object) -> str | None:
    """URL of a page of Prefect's UI, `runs/flow-run` or `artifacts/artifact` with an id; None if there is no UI."""
    root = PREFECT_UI_URL.value()
    return f"{root.rstrip('/')}/v2/{page}/{of}" if root else None


def report_address(key: str) -> str | None:
    """URL of a report below `$MATHQUARRY_REPORTS_URL`; None if no server for reports is set up."""
    root = os.environ.get("MATHQUARRY_REPORTS_URL")
    return f"{root.rstrip('/')}/{key}/report.html" if root else None


def _summary(artifact: Artifact) -> str:
    manifest = artifact.manifest
    size = sum(file["bytes"] for file in manifest["files"])
    lines = [
        f"## {artifact.stage}/{artifact.key}",
        "",
        f"{'Found in the store' if artifact.reused else 'Made'}; {artifact.seconds:,.1f} s of work, {len(manifest['files'])} files, "
        f"{size:,} bytes, created {manifest['created'][:19].replace('T', ' ')} by code {manifest['code']['revision']}.",
        "",
        f"- folder: `{artifact.path}`",
        f"- lineage: `mathquarry ledger lineage {artifact.key[:8]}`",
    ]
    if (artifact.path / WARNINGS).exists():
        sentences = read_json(artifact.path / WARNINGS)
        lines[2:2] = [f"- **Warning:** {MARKUP.sub(escaped, str(sentence))}" for sentence in sentences] + [""] * bool(sentences)
    if manifest["inputs"]:
        lines += ["", "| input | artifact |", "|---|---|"]
        lines += [f"| {role} | `{key}` |" for role, key in manifest["inputs"].items()]
    return "\n".join(lines)
