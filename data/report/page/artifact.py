"""An artifact in a report, and access to its files. Missing files are None or empty, and their section is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.store.workspace import MetricLog


@dataclass(frozen=True)
class ReportArtifact:
    """One artifact of a run. `name` is its place in the run ("grpo-1"), `inputs` maps roles to keys."""

    name: str
    stage: str
    key: str
    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    inputs: dict[str, str]
    seconds: float
    reused: bool

    @property
    def iteration(self) -> int | None:
        """The number at the end of the name: 1 for "grpo-1" and "evaluate-rl-1"."""
        last = self.name.rsplit("-", 1)[-1]
        return int(last) if last.isdecimal() else None

    def metrics(self) -> list[dict[str, Any]]:
        """Records {"step", "time", "values"}, oldest first. Raises `MathQuarryError` naming the file for an invalid line."""
        path = self.path / "metrics.jsonl"
        try:
            return MetricLog(path).read()
        except json.JSONDecodeError as error:
            raise MathQuarryError(f"{path} has a line that is not JSON: {error}. Rebuild the {self.stage} artifact.") from None

    def json(self, name: str) -> Any | None:
        """A JSON file of the artifact."""
        path = self.path / name
        return read_json(path) if path.exists() else None


def of_stage(artifacts: Sequence[ReportArtifact], stage: str) -> list[ReportArtifact]:
    """The artifacts of one stage, in the order of the run."""
    return [artifact for artifact in artifacts if artifact.stage == stage]


def series(records: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """(steps, values) of one metric."""
    found = [(record["step"], record["values"][name]) for record in records if name in record["values"]]
    return [step for step, _ in found], [float(value) for _, value in found]


def joined(artifacts: Sequence[ReportArtifact]) -> tuple[list[dict[str, Any]], list[tuple[int, ReportArtifact]]]:
    """Metrics of the artifacts one after another on one axis of steps; and each artifact that has any, with the step where it begins."""
    records: list[dict[str, Any]] = []
    begins = []
    offset = 0
    for artifact in artifacts:
        if found := artifact.metrics():
            begins.append((offset + found[0]["step"], artifact))
            records += [{**record, "step": record["step"] + offset} for record in found]
            offset = max(record["step"] for record in records)
    return records, begins
