"""The picture of section "lineage": the artifacts as boxes by stage, and what went into what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from data.lineage_picture import Box, Size, picture
from data.report.artifact import ReportArtifact
from data.report.blocks import Picture
from data.report.source import Source

TONES = {
    **dict.fromkeys(("problems", "crawl", "mine", "curate", "rejection"), "texts"),
    **dict.fromkeys(("pretrain", "sft", "reward", "grpo"), "models"),
    **dict.fromkeys(("evaluate", "harness"), "scores"),
}
KEY_DIGITS = 8
"""Of a key in a box; the table has them all."""


def lineage_picture(artifacts: Sequence[ReportArtifact], asked: str = "", *, source: Source) -> Picture:
    """The artifacts of a run; the one with the key `asked` is set off."""
    note = "Lines lead from what was read to what was made from it. Blue: texts and problems; orange: models; green: scores."
    if asked:
        note += " Filled: this artifact."
    return draw_artifacts(artifacts, "What was made from what", note, tones={asked: "asked"}, source=source)


def draw_artifacts(
    artifacts: Sequence[ReportArtifact],
    title: str,
    note: str,
    details: Mapping[str, str] | None = None,
    tones: Mapping[str, str] | None = None,
    *,
    source: Source,
) -> Picture:
    """One box a key. `details` has its second line (the key's first digits otherwise), `tones` its colour (by stage otherwise)."""
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
    described = f"{len(boxes)} artifacts and {len(edges)} inputs. The table says the same in words."
    across, down = (
        Markup(picture(boxes, list(edges.values()), size, title, described, name=f"lineage-{way}", down=way == "down"))
        for way in ("across", "down")
    )
    return Picture(title, across, down, note, source=source)
