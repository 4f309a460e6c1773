"""Differences between runs: fields of their configs, and artifacts with different keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mathquarry.data.report.page.artifact import ReportArtifact

MISSING = "–"


@dataclass(frozen=True)
class ComparedRun:
    """A run with its letter."""

    letter: str
    record: dict[str, Any]
    artifacts: list[ReportArtifact]

    @property
    def by_name(self) -> dict[str, ReportArtifact]:
        """The run's artifacts by name."""
        return {artifact.name: artifact for artifact in self.artifacts}


def flatten(config: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Return fields by dotted name, with values as JSON (strings unchanged). A list is one value."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flatten(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def config_differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return (dotted name, value in each config) of the fields that differ."""
    flat = [flatten(config) for config in configs]
    names = dict.fromkeys(name for config in flat for name in config)
    rows = [(name, [config.get(name, MISSING) for config in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def why_apart(one: ReportArtifact, other: ReportArtifact) -> tuple[list[str], list[str]]:
    """Return why two artifacts of the same name have different keys: their own differences, and the roles of inputs that differ."""
    causes = [name for name, _ in config_differences([one.config, other.config])]
    ours, theirs = one.json("manifest.json") or {}, other.json("manifest.json") or {}
    if ours.get("version") != theirs.get("version"):
        causes.append("the stage's version")
    if _digests(ours) != _digests(theirs):
        causes.append("files from outside the store")
    roles = [role for role in dict.fromkeys([*one.inputs, *other.inputs]) if one.inputs.get(role) != other.inputs.get(role)]
    return causes, roles


def _digests(manifest: Mapping[str, Any]) -> list[str]:
    return sorted(source["sha256"] for source in manifest.get("sources", []))
