"""Draws lineage as SVG: boxes in layers, each box in a layer after its inputs. Edges that skip layers run beside the boxes.

Edges that skip layers and start from the same box share a track, so that an input of everything stays one line with branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mathquarry.data.errors import MathQuarryError


@dataclass(frozen=True)
class Box:
    """An artifact in a picture: its title, a smaller line below, and a class for the style sheet."""

    key: str
    title: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class Size:
    """Measures in pixels. `between` separates layers, `beside` the boxes of a layer, and tracks."""

    width: int
    height: int
    between: int
    beside: int
    margin: int = 12


@dataclass(frozen=True)
class Places:
    """The layout: a layer and a place in it for each box, and a track for each box whose edges skip layers."""

    layer: dict[str, int]
    place: dict[str, int]
    track: dict[str, int]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return max(self.layer.values(), default=-1) + 1

    @property
    def breadth(self) -> int:
        """Boxes in the fullest layer."""
        return max(self.place.values(), default=-1) + 1

    @property
    def tracks(self) -> int:
        """Number of tracks."""
        return max(self.track.values(), default=-1) + 1


def layers(edges: Sequence[Mapping[str, str]], keys: Sequence[str]) -> dict[str, int]:
    """The layer of each of `keys`: one after the last layer of its inputs. `edges` have `key` and `input`.

    Raises `MathQuarryError` when the edges contain a cycle.
    """
    inputs: dict[str, list[str]] = {key: [] for key in keys}
    for edge in edges:
        inputs[edge["key"]].append(edge["input"])
    found: dict[str, int] = {}
    waiting = list(inputs)
    while waiting:
        ready = [key for key in waiting if all(other in found for other in inputs[key])]
        if not ready:
            raise MathQuarryError(f"the ledger says that {waiting[0]} was made from itself. `mathquarry ledger sync` rebuilds it.")
        found |= {key: 1 + max((found[other] for other in inputs[key]), default=-1) for key in ready}
        waiting = [key for key in waiting if key not in found]
    return found


def lay_out(edges: Sequence[Mapping[str, str]], keys: Sequence[str]) -> Places:
    """Places of the boxes called `keys`. In each layer, boxes that others were made from come first, so that the main line is straight."""
    layer = layers(edges, keys)
    used = {edge["input"] for edge in edges}
    place: dict[str, int] = {}
    filled = dict.fromkeys(layer.values(), 0)
    for key in sorted(keys, key=lambda key: key not in used):
        place[key] = filled[layer[key]]
        filled[layer[key]] += 1
    ends: dict[str, int] = {}
    for edge in edges:
        if layer[edge["key"]] > layer[edge["input"]] + 1:
            ends[edge["input"]] = max(ends.get(edge["input"], 0), layer[edge["key"]])
    track: dict[str, int] = {}
    taken: list[list[tuple[int, int]]] = []
    # The shortest edges run nearest to the boxes.
    for key in sorted(ends, key=lambda key: (ends[key] - layer[key], layer[key])):
        start, end = layer[key], ends[key]
        free = (number for number, spans in enumerate(taken) if all(end <= other or start >= last for other, last in spans))
        number = next(free, len(taken))
        if number == len(taken):
            taken.append([])
        taken[number].append((start, end))
        track[key] = number
    return Places(layer, place, track)


def picture(
    boxes: Sequence[Box], edges: Sequence[Mapping[str, str]], size: Size, title: str, description: str, *, name: str, down: bool = False
) -> str:
    """The picture as an `<svg>` without style: from left to right, or from top to bottom if `down`. All text in it is escaped.

    `edges` have `key`, `role` and `input`, all keys of boxes. `name` makes the ids of this picture unique on a page.
    """
    places = lay_out(edges, [box.key for box in boxes])
    # Box sizes along the direction of layers, and across it.
    long, broad = (size.height, size.width) if down else (size.width, size.height)
    step, row = long + size.between, broad + size.beside
    along = 2 * size.margin + places.depth * step - size.between
    edge_of_boxes = size.margin + places.breadth * row  # and of the space beside the last
    across = edge_of_boxes + (places.tracks - 1) * size.beside + size.margin
    width, height = (across, along) if down else (along, across)

    def point(a: float, b: float) -> str:
        return f"{b:g} {a:g}" if down else f"{a:g} {b:g}"

    def corner(key: str) -> tuple[int, int]:
        return size.margin + places.layer[key] * step, size.margin + places.place[key] * row

    def middle(key: str) -> float:
        return corner(key)[1] + broad / 2

    bend = size.between / 2
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="--wide:{width}px" role="img" '
        f'aria-labelledby="{escape(name)}-title {escape(name)}-description">'
        f'<title id="{escape(name)}-title">{escape(title)}</title><desc id="{escape(name)}-description">{escape(description)}</desc>'
    ]
    for edge in edges:
        a0, b0, a1, b1 = corner(edge["input"])[0] + long, middle(edge["input"]), corner(edge["key"])[0], middle(edge["key"])
        path = f"M{point(a0, b0)} "
        if places.layer[edge["key"]] > places.layer[edge["input"]] + 1:
            aside = edge_of_boxes + places.track[edge["input"]] * size.beside
            near, far = a0 + size.between, a1 - size.between
            path += f"C{point(a0 + bend, b0)} {point(near - bend, aside)} {point(near, aside)} L{point(far, aside)} "
            path += f"C{point(far + bend, aside)} {point(a1 - bend, b1)} {point(a1, b1)}"
        else:
            path += f"C{point(a0 + bend, b0)} {point(a1 - bend, b1)} {point(a1, b1)}"
        parts.append(f'<path d="{path}"><title>{escape(edge["role"])}</title></path>')
    for box in boxes:
        a, b = corner(box.key)
        x, y = (b, a) if down else (a, b)
        mark = f' class="{escape(box.tone)}"' if box.tone else ""
        parts.append(
            f'<g{mark}><rect x="{x}" y="{y}" width="{size.width}" height="{size.height}" rx="6"/>'
            f'<text x="{x + 9}" y="{y + 0.43 * size.height:g}">{escape(box.title)}</text>'
            f'<text class="key" x="{x + 9}" y="{y + 0.8 * size.height:g}">{escape(box.detail)}</text></g>'
        )
    return "\n".join([*parts, "</svg>\n"])
