"""The graph in section "lineage": artifacts as boxes by stage, and their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mathquarry.data.ledger.picture import Box, Size, picture
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Picture
from mathquarry.data.report.page.source import Source

TONES = {
    **dict.fromkeys(("problems", "crawl", "mine", "curate", "rejection"), "texts"),
    **dict.fromkeys(("pretrain", "sft", "reward", "grpo"), "models"),
    **dict.fromkeys(("evaluate", "harness"), "scores"),
}
KEY_DIGITS = 8
"""Digits of a key in a box. The table has complete keys."""


def lineage_picture(artifacts: Sequence[ReportArtifact], asked: str = "", *, source: Source) -> Picture:
    """Draw the artifacts of a run. The one with the key `asked` is highlighted."""
    note = "Lines lead from inputs to the artifacts made from them. Blue: texts and problems; orange: models; green: scores."
    if asked:
        note += " Filled: this artifact."
    return draw_artifacts(artifacts, "Lineage", note, tones={asked: "asked"}, source=source)


def draw_artifacts(
    artifacts: Sequence[ReportArtifact],
    title: str,
    note: str,
    details: Mapping[str, str] | None = None,
    tones: Mapping[str, str] | None = None,
    *,
    source: Source,
) -> Picture:
    """Draw one box per key. `details` has its second line (default: the key's first digits), `tones` its colour (default: by stage)."""
    by_key: dict[str, list[ReportArtifact]] = {}
    for artifact in artifacts:
        by_key.setdefault(artifact.key, []).append(artifact)
    edges = {
        (artifact.key, role): {"key": artifact.key, "role": role, "input": key}
        for artifact in artifacts
        for role, key in artifact.inputs.items()
        if key in by_key
    }
    boxes = []
    for key, found in by_key.items():
        names = list(dict.fromkeys(artifact.name for artifact in found))
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        tone = (tones or {}).get(key, TONES.get(found[0].stage, ""))
        boxes.append(Box(key, names[0] + more, (details or {}).get(key, key[:KEY_DIGITS]), tone))
    letters = max((len(box.title) for box in boxes), default=0)
    size = Size(width=max(90, round(6.2 * letters) + 18), height=38, between=20, beside=10, margin=2)
    described = f"{len(boxes)} artifacts and {len(edges)} inputs. The table has the same information."
    across, down = (
        Markup(picture(boxes, list(edges.values()), size, title, described, name=f"lineage-{way}", down=way == "down"))
        for way in ("across", "down")
    )
    return Picture(title, across, down, note, source=source)
