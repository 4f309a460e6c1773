"""What the Prefect UI shows of a stage and of a run: a summary, a table of figures, a chart, and links to what they are about."""

from __future__ import annotations

import base64
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.artifacts import create_image_artifact, create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_UI_URL

from data.report.sketch import sketch
from data.store import Artifact
from data.workspace import MetricLog

logger = logging.getLogger("mathquarry")

PANELS = 4
"""Curves in a stage's chart: the first that its metrics name."""


@contextmanager
def server_may_be_away() -> Iterator[None]:
    """What is shown is not worth a stage: an unreachable server costs the display, with a warning, and no more."""
    try:
        yield
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        logger.warning("not shown in the Prefect UI: %s: %s", type(error).__name__, error)


def publish_stage(artifact: Artifact) -> None:
    """Show an artifact on the current run's page: what it is, what went in, its figures, and its metrics as curves."""
    manifest = artifact.manifest
    name = f"{artifact.stage}-{artifact.key[:8]}"
    figures = {key: value for key, value in artifact.summary.items() if isinstance(value, int | float | str)}
    create_markdown_artifact(_summary(artifact), key=f"{name}-summary", description=f"{manifest['stage']}: what was made, and from what")
    if figures:
        rows = [{"figure": key.replace("_", " "), "value": value} for key, value in figures.items()]
        create_table_artifact(rows, key=f"{name}-figures", description=f"{manifest['stage']}: figures")
    series = _series(artifact)
    if series:
        picture = base64.b64encode(sketch(series).encode()).decode()
        create_image_artifact(
            f"data:image/svg+xml;base64,{picture}", key=f"{name}-chart", description=f"{manifest['stage']}: {', '.join(series)}"
        )
    if artifact.stage == "report" and (address := report_address(artifact.key)):
        create_link_artifact(address, link_text="Open the report", key=f"{name}-link", description="The report of the run")


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


def publish_failure(run_id: str, cause: str, first: str, stage: str | None, child: str | None) -> None:
    """Show on the current run's page why it failed: the cause, what to do first, the failed stage's run, and where to look further."""
    failed = f" in stage {stage}" if stage else ""
    lines = [
        f"## Failed{failed}",
        "",
        "**Cause**",
        "",
        *(f"> {MARKUP.sub(_escaped, line)}  " for line in cause.splitlines()),
        "",
        f"**First:** {first}",
        "",
    ]
    if child:
        address = ui_address("runs/flow-run", child)
        lines += [f"Then *Retry* in this run's menu: it goes on {failed.strip()}, and nothing that is finished is done again.", ""]
        lines += [f"- [Run of stage {stage}: its logs and figures]({address})" if address else f"- run of stage {stage}: `{child}`"]
    if reports := os.environ.get("MATHQUARRY_REPORTS_URL"):
        lines += [f"- [Reports of earlier runs]({reports})"]
    lines += ["- lineage of what is there: `docker/up exec cpu-worker mathquarry ledger lineage STAGE`", ""]
    lines += ["docs/faults.md lists what breaks and what to do then."]
    create_markdown_artifact("\n".join(lines), key=f"failure-{run_id}", description=f"Why this run failed{failed}, and what to do first")


MARKUP = re.compile(r"[\\`*_\[\]<>#|~]")


def _escaped(character: re.Match[str]) -> str:
    # A cause may quote what a page or a model wrote.
    return f"\\{character[0]}"


def ui_address(page: str, of: object) -> str | None:
    """Where a browser finds a page of Prefect's UI: `runs/flow-run` or `artifacts/artifact` of an id; None where there is no UI."""
    root = PREFECT_UI_URL.value()
    return f"{root.rstrip('/')}/v2/{page}/{of}" if root else None


def report_address(key: str) -> str | None:
    """Where a browser finds a report: below `$MATHQUARRY_REPORTS_URL`, where a server for them is set up."""
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
    if manifest["inputs"]:
        lines += ["", "| input | artifact |", "|---|---|"]
        lines += [f"| {role} | `{key}` |" for role, key in manifest["inputs"].items()]
    return "\n".join(lines)


def _series(artifact: Artifact) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for record in MetricLog(artifact.path / "metrics.jsonl").read():
        values: dict[str, Any] = record["values"]
        for name, value in values.items():
            if math.isfinite(value):
                series.setdefault(name, []).append((record["step"], value))
    drawable = {name: points for name, points in series.items() if len(points) > 1}
    return dict(list(drawable.items())[:PANELS])
