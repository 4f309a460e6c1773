"""Sections "lineage", "time" and "config": the inputs of all artifacts, their cost, and the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Bar, Bars, Fold, Section, Table, duration
from mathquarry.data.report.page.source import Source, keys
from mathquarry.data.report.sections.lineage_section import lineage_picture


def lineage_section(artifacts: Sequence[ReportArtifact], asked: str = "") -> Section:
    """Show each artifact with its key and inputs. The one with the key `asked` is highlighted."""
    names = {artifact.key: artifact.name for artifact in artifacts}
    rows = []
    for artifact in artifacts:
        made_from = [f"{role}: {names.get(key, key)}" if role != names.get(key) else role for role, key in artifact.inputs.items()]
        rows.append([artifact.name, artifact.stage, artifact.key, ", ".join(made_from) or "–", code_version(artifact) or "–"])
    headers = ["Artifact", "Stage", "Key", "Made from", "Code"]
    source = Source.of(
        artifacts,
        "select stage, key, role, input as made_from, code_version, code_revision\n"
        f"from artifacts left join inputs using (key) where key in {keys(artifacts)}",
    )
    return Section(
        "lineage",
        "Lineage",
        "A key is a hash of the stage, its config, its source files and the keys of its inputs. Equal keys mean equal artifacts.",
        [lineage_picture(artifacts, asked, source=source), Table(headers, rows, mono=frozenset({2, 4}), source=source)],
    )


def time_section(artifacts: Sequence[ReportArtifact], reused: Mapping[str, bool]) -> Section:
    """Show wall-clock time by stage. `reused` says by name which artifacts this run found in the store."""
    longest = max((artifact.seconds for artifact in artifacts), default=0) or 1
    bars = [
        Bar(
            artifact.name,
            duration(artifact.seconds),
            artifact.seconds / longest,
            "from an earlier run" if found else "",
            "muted" if found else "main",
        )
        for artifact in artifacts
        for found in [reused.get(artifact.name, False)]
    ]
    total = sum(artifact.seconds for artifact in artifacts)
    source = Source.of(artifacts, f"select stage, key, seconds from artifacts where key in {keys(artifacts)}")
    return Section("time", "Time", f"Wall-clock time of the work, {duration(total)} in total.", [Bars(bars, source=source)])


def config_section(config: Mapping[str, Any]) -> Section | None:
    """Show the resolved recipe. Running it again with the same code repeats the run."""
    if not config:
        return None
    nested = {name: value for name, value in config.items() if isinstance(value, dict)}
    plain = {name: value for name, value in config.items() if name not in nested}
    folds = [Fold(name, json.dumps(value, indent=2, ensure_ascii=False)) for name, value in nested.items()]
    if plain:
        folds.insert(0, Fold("recipe", json.dumps(plain, indent=2, ensure_ascii=False)))
    return Section("config", "Config", "The resolved recipe, including all defaults.", folds)


def code_version(artifact: ReportArtifact) -> str:
    """Return version and revision of the code that made an artifact, from its manifest."""
    manifest = artifact.json("manifest.json")
    code = manifest.get("code", {}) if isinstance(manifest, dict) else {}
    return " ".join(str(code[part]) for part in ("version", "revision") if code.get(part))
