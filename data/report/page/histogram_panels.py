"""Histograms of scores for several rounds, one below the other on the same axis, with the threshold of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_GAP = 0.09
"""Share of the height between two panels, for the panel's name."""
_CROWDED = 50
"""Ratio of the highest bars on both sides of the threshold above which the axis is logarithmic."""


@dataclass(frozen=True)
class Panel:
    """A round's pages by bin. `mark` is its threshold on the axis, `threshold` the same as a score."""

    name: str
    counts: Sequence[int]
    mark: float
    threshold: float


def histogram_panels(edges: Sequence[float], panels: Sequence[Panel], ticks: Sequence[tuple[float, str]]) -> dict[str, Any]:
    """Draw bars over the bins between `edges`, with one colour right of the threshold and another left of it.

    The bin that contains a threshold has the colour of the side of its middle. `ticks` are (place, text).
    """
    logarithmic = any(_crowded(edges, panel) for panel in panels)
    height = (1 - _GAP * (len(panels) - 1)) / len(panels)
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    widths = [high - low for low, high in pairwise(edges)]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "barmode": "overlay",
        "bargap": 0,
        "showlegend": True,
        "hovermode": "closest",
        "shapes": [],
        "annotations": [],
        "xaxis": {
            "tickvals": [place for place, _ in ticks],
            "ticktext": [text for _, text in ticks],
            "range": [edges[0], edges[-1]],
            "title": {"text": "classifier's score of a page (log-odds axis)"},
            "anchor": f"y{_number(len(panels) - 1)}",
        },
    }
    for place, panel in enumerate(panels):
        top = 1 - place * (height + _GAP)
        highest = max([1, *panel.counts])
        scale = (
            {"type": "log", "dtick": 1, "range": [math.log10(0.5), math.log10(highest) + 0.15]} if logarithmic else {"rangemode": "tozero"}
        )
        layout[f"yaxis{_number(place)}"] = scale | {"domain": [max(0.0, top - height), top], "nticks": 4, "title": {"text": "pages"}}
        for name, colour, right in (("not collected", "@muted", False), ("collected: right of the threshold", "@c1", True)):
            side = [number for number, middle in enumerate(middles) if (middle >= panel.mark) == right]
            data.append(
                {
                    "type": "bar",
                    "name": name,
                    "meta": panel.name,
                    "x": [middles[number] for number in side],
                    "y": [panel.counts[number] for number in side],
                    "width": [widths[number] for number in side],
                    "yaxis": f"y{_number(place)}",
                    "marker": {"color": colour},
                    "legendgroup": name,
                    "showlegend": place == 0,
                    "hovertemplate": f"{panel.name}: %{{y}} pages<extra></extra>",
                }
            )
        reference = f"y{_number(place)} domain"
        across = {"x0": panel.mark, "x1": panel.mark, "y0": 0, "y1": 1, "yref": reference}
        layout["shapes"].append({"type": "line", **across, "line": {"color": "@text", "width": 1.5, "dash": "dot"}})
        corner = {"yref": reference, "y": 1, "yanchor": "bottom", "showarrow": False, "font": {"size": 11, "color": "@text"}}
        layout["annotations"].append({**corner, "x": 0, "xref": "paper", "xanchor": "left", "text": panel.name})
        layout["annotations"].append({**corner, "x": panel.mark, "xanchor": "center", "text": f"threshold {panel.threshold:.3g}"})
    return {"data": data, "layout": layout}


def _number(place: int) -> str:
    """Return plotly's suffix of an axis: y, y2, y3, ..."""
    return str(place + 1) if place else ""


def _crowded(edges: Sequence[float], panel: Panel) -> bool:
    sides: dict[bool, int] = {}
    for low, high, pages in zip(edges, edges[1:], panel.counts, strict=False):
        right = (low + high) / 2 >= panel.mark
        sides[right] = max(sides.get(right, 0), pages)
    return len(sides) == 2 and 0 < min(sides.values()) * _CROWDED < max(sides.values())
