"""Charts as plotly specifications in plain dictionaries. Colours are names in the style sheet (`@c1`), for both themes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_POINTS = 600
"""Longer series are drawn as means of equal bins, since more points than pixels only make the page larger."""

COLOURS = ("@c1", "@c2", "@c3", "@c4", "@c5", "@c6")


@dataclass(frozen=True)
class Line:
    """One curve. `errors` are drawn as error bars, for curves with few points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str | None = None
    errors: Sequence[float] | None = None


def lines(
    curves: Sequence[Line],
    x_title: str,
    y_format: str = "",
    y_range: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    *,
    log_x: bool = False,
    points: bool = False,
    level: float | None = None,
) -> dict[str, Any]:
    """Draw curves over steps. `marks` are (x, text) of vertical lines, for example where iterations start; `level` is a horizontal one."""
    data = []
    for curve, colour in zip(curves, _cycle(len(curves)), strict=True):
        x, y = thin(curve.x, curve.y)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if points or len(x) < 12 else "lines",
                "name": curve.name,
                "x": x,
                "y": y,
                "line": {"color": curve.colour or colour, "width": 2},
                "marker": {"size": 6},
            }
        )
        if curve.errors is not None:
            data[-1]["error_y"] = {"type": "data", "array": list(curve.errors), "thickness": 1.3, "width": 3}
    y_axis: dict[str, Any] = {"tickformat": y_format, "rangemode": "nonnegative"}
    if y_range:
        y_axis["range"] = list(y_range)
    x_axis: dict[str, Any] = {"title": {"text": x_title}}
    if log_x:
        ticks = sorted({value for curve in curves for value in curve.x})
        x_axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    layout: dict[str, Any] = {"xaxis": x_axis, "yaxis": y_axis, "showlegend": len(curves) > 1, "hovermode": "x unified"}
    layout["shapes"] = [
        {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": "@faint", "width": 1, "dash": "dot"}}
        for x, _ in marks
    ]
    if level is not None:
        dotted = {"color": "@faint", "width": 1, "dash": "dot"}
        layout["shapes"].append({"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": level, "y1": level, "line": dotted})
    layout["annotations"] = [
        {"x": x, "y": 1, "yref": "paper", "text": text, "showarrow": False, "xanchor": "left", "yanchor": "bottom", "font": {"size": 11}}
        for x, text in marks
    ]
    return {"data": data, "layout": layout}


def grouped_bars(groups: Sequence[str], bars: Sequence[tuple[str, Sequence[float | None], Sequence[float | None]]]) -> dict[str, Any]:
    """Draw bars with error bars: `bars` are (name, value per group, standard error per group), with values as shares of 1."""
    data = [
        {
            "type": "bar",
            "name": name,
            "x": list(groups),
            "y": list(values),
            "marker": {"color": colour},
            "error_y": {"type": "data", "array": list(errors), "visible": any(errors), "thickness": 1.3, "width": 3, "color": "@text"},
            "hovertemplate": "%{y:.1%}<extra>" + name + "</extra>",
        }
        for (name, values, errors), colour in zip(bars, _cycle(len(bars)), strict=True)
    ]
    tallest = max(
        (value + (error or 0) for _, values, errors in bars for value, error in zip(values, errors, strict=True) if value), default=1
    )
    layout = {
        "barmode": "group",
        "bargap": 0.28,
        "bargroupgap": 0.08,
        "yaxis": {"tickformat": ".0%", "range": [0, min(1.0, tallest * 1.12) if tallest < 1 else 1.02]},
        "xaxis": {"type": "category"},
        "showlegend": True,
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def plain_bars(
    labels: Sequence[str], values: Sequence[float | None], y_format: str = "", y_range: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Draw one bar per label, from zero."""
    y_axis: dict[str, Any] = {"tickformat": y_format, "rangemode": "tozero"}
    if y_range:
        y_axis["range"] = list(y_range)
    bar = {"type": "bar", "x": list(labels), "y": list(values), "marker": {"color": "@c1"}, "width": 0.5, "hoverinfo": "x+y"}
    return {"data": [bar], "layout": {"xaxis": {"type": "category"}, "yaxis": y_axis, "showlegend": False}}


def stacked_shares(curves: Sequence[Line], x_title: str, marks: Sequence[tuple[float, str]] = ()) -> dict[str, Any]:
    """Draw shares that add up to 1, as stacked areas."""
    spec = lines(curves, x_title, ".0%", (0, 1), marks)
    for trace, curve in zip(spec["data"], curves, strict=True):
        trace |= {"mode": "lines", "stackgroup": "one", "line": {"width": 0.5, "color": curve.colour or trace["line"]["color"]}}
    return spec


def thin(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return at most `MOST_POINTS` points: means of equal bins, with x at the middle of each. Values that are not finite are dropped."""
    finite = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    x, y = [a for a, _ in finite], [b for _, b in finite]
    size = max(1, -(-len(x) // MOST_POINTS))
    starts = range(0, len(x), size)
    xs = [float(x[min(start + (size - 1) // 2, len(x) - 1)]) for start in starts]
    ys = [sum(y[start : start + size]) / len(y[start : start + size]) for start in starts]
    return xs, [float(f"{value:.6g}") for value in ys]


def _cycle(number: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(number)]
