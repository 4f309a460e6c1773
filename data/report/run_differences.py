"""Where runs differ: fields of their configs, and the artifacts at which they part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.report.artifact import ReportArtifact

MISSING = "–"


@dataclass(frozen=True)
class ComparedRun:
    """A run with its letter."""

    letter: str
    record: dict[str, Any]
    artifacts: list[ReportArtifact]

    @property
    def by_name(self) -> dict[str, ReportArtifact]:
        """Its artifacts by their name in the run."""
        return {artifact.name: artifact for artifact in self.artifacts}


def flatten(config: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Fields by dotted name, values as JSON (text as it is). A list is one value."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flatten(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def config_differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(dotted name, value in each config) of the fields that are not the same in all."""
    flat = [flatten(config) for config in configs]
    names = dict.fromkeys(name for config in flat for name in config)
    rows = [(name, [config.get(name, MISSING) for config in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def why_apart(one: ReportArtifact, other: ReportArtifact) -> tuple[list[str], list[str]]:
    """Why two artifacts of the same name in two runs have different keys: what differs in themselves, and the roles of inputs that do."""
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
