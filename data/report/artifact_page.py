"""The report of one artifact: its manifest, and its inputs with their curves and scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mathquarry.data.report.build import path_sections, present, write_page
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Block, Fold, Section, Table, count, duration, rounded
from mathquarry.data.report.page.source import Source, keys, literal
from mathquarry.data.report.sections.cost import cost_section, environment_section
from mathquarry.data.report.sections.provenance import code_version, lineage_section


def build_artifact_page(
    artifact: ReportArtifact, lineage: Sequence[ReportArtifact], made_from_it: Sequence[str], out: Path
) -> dict[str, int | float | str]:
    """Write `out / "report.html"` about an artifact. `lineage` has the artifact, its inputs at any depth, and their scores.
    `made_from_it` are the names of artifacts made from it.

    Returns its size, sections and charts. Raises `MathQuarryError` if a file cannot be read.
    """
    heading = {"recipe": artifact.name, "kind": artifact.stage, "id": artifact.key, "started": ""}
    return write_page(heading, lineage, artifact_sections(artifact, lineage, made_from_it), out)


def artifact_sections(artifact: ReportArtifact, lineage: Sequence[ReportArtifact], made_from_it: Sequence[str]) -> list[Section]:
    """Return the sections of the page, without empty ones."""
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
        ["Used by", ", ".join(made_from_it) or "nothing yet"],
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
        query = f"select f.key as metric, f.value from artifacts, json_each(summary) as f where artifacts.key = {literal(artifact.key)}"
        source = Source.of([artifact], query)
        blocks.append(Table(["Metric", "Value"], rows, frozenset({1}), "Summary of the stage", source=source))
    return Section("artifact", "Artifact", "From its manifest.", blocks)


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return count(value) if value == int(value) else rounded(value, 4)


def _files(lineage: Sequence[ReportArtifact]) -> Section | None:
    """List the files from outside the store that the artifacts read."""
    rows = [
        [artifact.name, str(source["path"]), count(source["bytes"]), str(source["sha256"])[:16]]
        for artifact in lineage
        for source in (artifact.json("manifest.json") or {}).get("sources", [])
    ]
    if not rows:
        return None
    source = Source.of(lineage, f"select key, path, bytes, sha256 from sources where key in {keys(lineage)}")
    table = Table(["Artifact", "File", "Bytes", "SHA-256 begins"], rows, frozenset({2}), mono=frozenset({3}), source=source)
    return Section("files", "Files", "Files from outside the store. Their content, not their name, is part of the key.", [table])


def _configs(artifact: ReportArtifact, lineage: Sequence[ReportArtifact]) -> Section:
    """Show all configs, the artifact's own first."""
    ordered = [artifact, *(other for other in lineage if other.key != artifact.key)]
    folds = [Fold(other.name, json.dumps(other.config, indent=2, ensure_ascii=False)) for other in ordered]
    return Section("config", "Config", "The config of each artifact, which is part of its key.", folds)
