"""Ancestors and descendants of an artifact as a graph, for programs (JSON) and for people (SVG)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from mathquarry.data.ledger.ledger import Ledger, unknown
from mathquarry.data.ledger.picture import Box, Size, picture

Direction = Literal["up", "down", "both"]

_SIZE = Size(width=190, height=46, between=60, beside=18, margin=16)
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c2430 } .key { font: 11px ui-monospace, monospace; fill: #556070 }
rect { fill: #fff; stroke: #8a96a8 } .asked rect { fill: #e6effc; stroke: #2a6fdb; stroke-width: 2 } path { fill: none; stroke: #8a96a8 }
@media (prefers-color-scheme: dark) { svg { background: #14181f } text { fill: #e4e9f0 } .key { fill: #9aa6b6 }
rect { fill: #1f2630; stroke: #667284 } .asked rect { fill: #1b3354; stroke: #6ea6f5 } path { stroke: #667284 } }
"""


class Graph(NamedTuple):
    """Artifacts and the edges between them."""

    artifacts: list[dict[str, Any]]
    """key, stage, created, seconds, bytes, code_version, code_revision, path; in the order in which they were made."""
    edges: list[dict[str, str]]
    """key, role, input."""


def graph(ledger: Ledger, key: str, direction: Direction = "up") -> Graph:
    """The artifact with its ancestors (`up`), its descendants (`down`), or `both`.

    Raises `MathQuarryError` when the ledger does not know the key.
    """
    up = ledger.follow([key], "up") if direction != "down" else []
    down = ledger.follow([key], "down") if direction != "up" else []
    keys = {key} | {edge.input for edge in up} | {edge.key for edge in down}
    artifacts = ledger.query(
        "select key, stage, created, seconds, bytes, code_version, code_revision, path from artifacts "
        "where key in (select unnest(?::varchar[])) order by created, key",
        [list(keys)],
    )
    if missing := keys - {row["key"] for row in artifacts}:
        raise unknown(missing)
    within = [edge._asdict() for edge in ledger.inputs(keys) if edge.input in keys]
    edges = sorted(within, key=lambda edge: (edge["key"], edge["role"]))
    return Graph(artifacts, edges)


def draw(found: Graph, asked: str) -> str:
    """The graph as a standalone SVG picture, from left to right, with `asked` highlighted."""
    boxes = [Box(row["key"], row["stage"], row["key"], "asked" if row["key"] == asked else "") for row in found.artifacts]
    drawn = picture(boxes, found.edges, _SIZE, f"Lineage of {asked}", "Artifacts, each after what it was made from.", name="lineage")
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace("<title", f"<style>{_STYLE}</style><title", 1)
