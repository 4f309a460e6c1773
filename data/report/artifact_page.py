"""A page about one artifact: what it is, and what made it, with the curves and scores of all that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.report.artifact import ReportArtifact
from data.report.blocks import Block, Fold, Section, Table, count, duration, figure
from data.report.build import path_sections, present, write_page
from data.report.cost import cost_section, environment_section
from data.report.provenance import code_version, lineage_section
from data.report.source import Source, keys, literal


def build_artifact_page(
    artifact: ReportArtifact, lineage: Sequence[ReportArtifact], made_from_it: Sequence[str], out: Path
) -> dict[str, int | float | str]:
    """Write `out / "report.html"` about an artifact. `lineage` has it, all that made it, and scores of these; `made_from_it` are the names
    of what it went into.

    Returns its size, sections and charts. Raises `MathQuarryError` for a file that cannot be read.
    """
    heading = {"recipe": artifact.name, "kind": artifact.stage, "id": artifact.key, "started": ""}
    return write_page(heading, lineage, artifact_sections(artifact, lineage, made_from_it), out)


def artifact_sections(artifact: ReportArtifact, lineage: Sequence[ReportArtifact], made_from_it: Sequence[str]) -> list[Section]:
    """The sections of the page, without those that there is nothing for."""
    sections = [
        _facts(artifact, artifact.json("manifest.json") or {}, lineage, made_from_it),
        *path_sections(lineage),
        lineage_section(lineage, artifact.key),
        _files(lineage),
        cost_section(lineage, {}),
        environment_section(lineage),
        _configs(artifact, lineage),
    ]
    return present(sections)


def _facts(
    artifact: ReportArtifact, manifest: Mapping[str, Any], lineage: Sequence[ReportArtifact], made_from_it: Sequence[str]
) -> Section:
    names = {other.key: other.name for other in lineage}
    files = manifest.get("files", [])
    facts = [
        ["Stage", artifact.stage],
        ["Key", artifact.key],
        ["Made from", ", ".join(f"{role}: {names.get(key, key)}" for role, key in artifact.inputs.items()) or "nothing in the store"],
        ["Went into", ", ".join(made_from_it) or "nothing yet"],
        ["Made", f"{str(manifest['created'])[:19].replace('T', ' ')} UTC" if "created" in manifest else "–"],
        ["Code", code_version(artifact) or "–"],
        ["Time", duration(artifact.seconds)],
        ["Files", f"{count(len(files))}, {count(sum(file['bytes'] for file in files))} bytes" if files else "–"],
    ]
    query = (
        "select stage, key, created, code_version, code_revision, seconds, files, bytes,\n"
        "(select list(role || ': ' || input) from inputs where inputs.key = made.key) as made_from,\n"
        "(select list(edges.key) from edges where edges.input = made.key and edges.stage <> 'report') as went_into\n"
        f"from artifacts as made where key = {literal(artifact.key)}"
    )
    blocks: list[Block] = [Table(["", "This artifact"], facts, source=Source.of([artifact], query))]
    if artifact.summary:
        rows = [[name.replace("_", " "), _value(value)] for name, value in artifact.summary.items()]
        query = f"select f.key as figure, f.value from artifacts, json_each(summary) as f where artifacts.key = {literal(artifact.key)}"
        source = Source.of([artifact], query)
        blocks.append(Table(["Figure", "Value"], rows, frozenset({1}), "What the stage returned", source=source))
    return Section("artifact", "Artifact", "What its manifest says.", blocks)


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return count(value) if value == int(value) else figure(value, 4)


def _files(lineage: Sequence[ReportArtifact]) -> Section | None:
    """Files from outside the store that the artifacts read."""
    rows = [
        [artifact.name, str(source["path"]), count(source["bytes"]), str(source["sha256"])[:16]]
        for artifact in lineage
        for source in (artifact.json("manifest.json") or {}).get("sources", [])
    ]
    if not rows:
        return None
    source = Source.of(lineage, f"select key, path, bytes, sha256 from sources where key in {keys(lineage)}")
    table = Table(["Artifact", "File", "Bytes", "SHA-256 begins"], rows, frozenset({2}), mono=frozenset({3}), source=source)
    return Section("files", "Files", "What came from outside the store. Their content, not their name, is part of a key.", [table])


def _configs(artifact: ReportArtifact, lineage: Sequence[ReportArtifact]) -> Section:
    """The artifact's own config first."""
    ordered = [artifact, *(other for other in lineage if other.key != artifact.key)]
    folds = [Fold(other.name, json.dumps(other.config, indent=2, ensure_ascii=False)) for other in ordered]
    return Section("config", "Config", "What each artifact's key was made from, besides its inputs.", folds)
