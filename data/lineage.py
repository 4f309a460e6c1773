"""Where an artifact comes from and what came from it, as a graph: for a program (JSON) and for a person (SVG)."""

from __future__ import annotations

from html import escape
from typing import Any, Literal, NamedTuple

from data.errors import MathQuarryError
from data.ledger import Ledger, unknown

Direction = Literal["up", "down", "both"]

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN, _SAG = 190, 46, 70, 18, 16, 34
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c2430 } .key { font: 11px ui-monospace, monospace; fill: #556070 }
rect { fill: #fff; stroke: #8a96a8 } .asked rect { fill: #e6effc; stroke: #2a6fdb; stroke-width: 2 } path { fill: none; stroke: #8a96a8 }
@media (prefers-color-scheme: dark) { svg { background: #14181f } text { fill: #e4e9f0 } .key { fill: #9aa6b6 }
rect { fill: #1f2630; stroke: #667284 } .asked rect { fill: #1b3354; stroke: #6ea6f5 } path { stroke: #667284 } }
"""


class Graph(NamedTuple):
    """Artifacts and what went into what."""

    artifacts: list[dict[str, Any]]
    """key, stage, created, seconds, bytes, code_version, code_revision, path; in the order in which they were made."""
    edges: list[dict[str, str]]
    """key, role, input."""


def graph(ledger: Ledger, key: str, direction: Direction = "up") -> Graph:
    """The artifact with everything that made it (`up`), everything made from it (`down`), or `both`.

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


def layers(found: Graph) -> dict[str, int]:
    """The column of each artifact: one to the right of the rightmost of its inputs."""
    inputs: dict[str, list[str]] = {row["key"]: [] for row in found.artifacts}
    for edge in found.edges:
        inputs[edge["key"]].append(edge["input"])
    columns: dict[str, int] = {}
    waiting = list(inputs)
    while waiting:
        ready = [key for key in waiting if all(other in columns for other in inputs[key])]
        if not ready:
            raise MathQuarryError(f"the ledger says that {waiting[0]} was made from itself. `mathquarry ledger sync` rebuilds it.")
        columns |= {key: 1 + max((columns[other] for other in inputs[key]), default=-1) for key in ready}
        waiting = [key for key in waiting if key not in columns]
    return columns


def draw(found: Graph, asked: str) -> str:
    """The graph as an SVG picture, from left to right; `asked` is set off."""
    columns = layers(found)
    places: dict[str, tuple[int, int]] = {}
    rows = dict.fromkeys(columns.values(), 0)
    for row in found.artifacts:
        column = columns[row["key"]]
        places[row["key"]] = (_MARGIN + column * (_WIDTH + _ACROSS), _MARGIN + rows[column] * (_HEIGHT + _DOWN))
        rows[column] += 1
    # An edge that skips columns hangs below the boxes between its ends.
    sags = [_SAG * (columns[edge["key"]] - columns[edge["input"]] - 1) for edge in found.edges]
    width = 2 * _MARGIN + len(rows) * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _MARGIN + max(rows.values(), default=0) * (_HEIGHT + _DOWN) - _DOWN + max(sags, default=0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Lineage of {escape(asked)}"><style>{_STYLE}</style>'
    ]
    for edge, sag in zip(found.edges, sags, strict=True):
        (x0, y0), (x1, y1) = places[edge["input"]], places[edge["key"]]
        start, middle0, middle1 = x0 + _WIDTH, y0 + _HEIGHT // 2, y1 + _HEIGHT // 2
        bend = _ACROSS // 2 + sag
        parts.append(
            f'<path d="M{start} {middle0} C{start + bend} {middle0 + 2 * sag} {x1 - bend} {middle1 + 2 * sag} {x1} {middle1}">'
            f"<title>{escape(edge['role'])}</title></path>"
        )
    for row in found.artifacts:
        x, y = places[row["key"]]
        mark = ' class="asked"' if row["key"] == asked else ""
        parts.append(
            f'<g{mark}><rect x="{x}" y="{y}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" rx="6"/><text x="{x + 10}" y="{y + 20}">{escape(row["stage"])}</text>'
            f'<text class="key" x="{x + 10}" y="{y + 37}">{escape(row["key"])}</text></g>'
        )
    return "\n".join([*parts, "</svg>\n"])
