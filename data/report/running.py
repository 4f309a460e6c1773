"""The page about a run that has not ended: its finished stages, and the running stage with its curves and rollouts so far."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.files import write_json_lines
from mathquarry.data.report.build import FOLDER, Watch, make_sections, render
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Block, Chart, Section, Table, count, duration, rounded
from mathquarry.data.report.page.charts import Line, lines
from mathquarry.data.report.page.curves import main_curves
from mathquarry.data.report.page.source import Source, literal, metrics_source
from mathquarry.data.store.making import Making, being_made
from mathquarry.data.store.store import Store
from mathquarry.data.store.workspace import MetricLog

SCRIPT = FOLDER / "watch.js"

CURVES = 6
"""Maximum number of curves at the top of the page. The other sections show all curves."""


def making_of(store: Store, run: Mapping[str, Any]) -> Making | None:
    """Return the artifact that the run's current stage is making on this host; None if it is unknown, for example on another host.

    If several artifacts are being made from the run's inputs, prefer one whose config agrees with the run's recipe, then the newest.
    """
    if run.get("status") != "running" or not run.get("at_work"):
        return None
    there = {stage["key"] for stage in run["stages"]}
    stage = run["at_work"]["stage"]
    fitting = [making for making in being_made(store.root) if making.stage == stage and set(making.inputs.values()) <= there]
    return max(fitting, key=lambda making: (_agrees(making.config, run.get("config", {})), making.begun), default=None)


def _agrees(part: Any, whole: Any) -> bool:
    """Return whether a recipe (`whole`) and a stage's config (`part`) have equal values in all fields that both have."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(_agrees(value, whole[name]) for name, value in part.items() if name in whole)
    return bool(part == whole)


@dataclass(frozen=True)
class Snapshot:
    """The state of the running stage at one moment, copied to files that no longer change."""

    artifact: ReportArtifact
    steps: int


@contextmanager
def snapshot(making: Making, name: str) -> Iterator[Snapshot]:
    """Copy the metrics, and the completions of the first, the middle and the latest step. The copy is deleted after the block.

    Metrics that are not finite are left out. Raises `FileNotFoundError` if the stage ends during the copy.
    """
    with TemporaryDirectory(prefix="mathquarry-watch-") as folder:
        records = MetricLog(making.scratch / "metrics.jsonl").read()
        finite = [
            record | {"values": {name: value for name, value in record["values"].items() if math.isfinite(value)}} for record in records
        ]
        write_json_lines(Path(folder) / "metrics.jsonl", finite)
        _sample_rollouts(sorted((making.scratch / "rollouts").glob("step-*.parquet")), Path(folder) / "rollouts.parquet")
        if not making.scratch.exists():
            raise FileNotFoundError(making.scratch)
        artifact = ReportArtifact(
            name=name,
            stage=making.stage,
            key=making.key,
            path=Path(folder),
            config=making.config,
            summary={},
            inputs=making.inputs,
            seconds=max(time.time() - making.begun, 0.0),
            reused=False,
        )
        yield Snapshot(artifact, max((record["step"] for record in records), default=0))


def _sample_rollouts(parts: Sequence[Path], path: Path) -> None:
    if not parts:
        return
    chosen = [parts[place] for place in sorted({0, len(parts) // 2, len(parts) - 1})]
    with pq.ParquetWriter(path, pq.read_schema(chosen[0])) as writer:
        for part in chosen:
            writer.write_table(pq.read_table(part))


def running_page(run: dict[str, Any], published: Sequence[ReportArtifact], now: Snapshot | None, version: str) -> str:
    """Return the page as HTML. Until the run ends, the page asks for a version other than `version`, and then reloads."""
    sections = [_now_section(run, now), *make_sections(run, published, now.artifact if now else None)]
    watch = Watch(version, SCRIPT.read_text(encoding="utf-8")) if run["status"] == "running" else None
    return render(run, published, sections, watch=watch)


def _now_section(run: Mapping[str, Any], now: Snapshot | None) -> Section:
    title = "Running"
    if run["status"] != "running":
        return Section("now", f"The run has {'failed' if run['status'] == 'failed' else 'ended'}", "This page no longer reloads.")
    if now is None:
        stage = run.get("at_work")
        lead = f"Stage {stage['name']} is running, but not on this host." if stage else "No stage is running."
        return Section("now", title, f"{lead} This page reloads when there is something new.")
    artifact = now.artifact
    named = [(artifact.name, artifact)]
    records = artifact.metrics()
    newest: dict[str, float] = {}
    for record in records:
        newest |= record["values"]
    blocks: list[Block] = [
        Chart(name.replace("_", " "), lines([Line(name, *_axes(points))], "step"), source=metrics_source(named, [name]))
        for name, points in main_curves(records, CURVES).items()
    ]
    if newest:
        rows = [[name.replace("_", " "), _value(value)] for name, value in newest.items()]
        query = f"select name, arg_max(value, step) as newest from metrics where key = {literal(artifact.key)} group by name"
        blocks.append(Table(["Metric", "Latest value"], rows, frozenset({1}), source=Source.of([artifact], query)))
    lead = (
        f"Stage {artifact.name} has run for {duration(artifact.seconds)} and logged {count(now.steps)} steps. This page reloads when "
        "there is something new. The queries return these numbers only after the stage has ended."
    )
    return Section("now", f"{title}: {artifact.name}", lead, blocks)


def _axes(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _value(value: float) -> str:
    return count(value) if value == int(value) else rounded(value, 4)
