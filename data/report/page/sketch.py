"""Draws metrics as a static SVG image with small panels, for places that show images but run no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from mathquarry.data.report.page.charts import thin

_PANEL = (300, 150)
_COLUMNS = 2
_MARGIN = 34


def sketch(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return an SVG with a panel for each series of (step, value). Each panel shows the name and the first, last and extreme values."""
    width, height = _PANEL
    rows = -(-len(series) // _COLUMNS)
    panels = [
        _panel(name, points, index % _COLUMNS * width, index // _COLUMNS * height) for index, (name, points) in enumerate(series.items())
    ]
    size = f'width="{min(len(series), _COLUMNS) * width}" height="{rows * height}"'
    style = 'font-family="sans-serif" font-size="11" style="background:#fff"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(panels)}</svg>'


def _panel(name: str, points: Sequence[tuple[float, float]], left: int, top: int) -> str:
    width, height = _PANEL
    x, y = thin([step for step, _ in points], [value for _, value in points])
    low, high = min(y), max(y)
    wide, tall = max(x[-1] - x[0], 1e-9), max(high - low, 1e-9)
    across = [_MARGIN + (step - x[0]) / wide * (width - 2 * _MARGIN) for step in x]
    down = [height - _MARGIN - (value - low) / tall * (height - 2 * _MARGIN) for value in y]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    return (
        f'<g transform="translate({left},{top})">'
        f'<text x="{_MARGIN}" y="16" font-weight="bold" fill="#222">{escape(name)}</text>'
        f'<text x="{width - _MARGIN}" y="16" text-anchor="end" fill="#666">{y[0]:.4g} → {y[-1]:.4g}</text>'
        f'<text x="{_MARGIN}" y="28" fill="#999">{high:.4g}</text>'
        f'<text x="{_MARGIN}" y="{height - 20}" fill="#999">{low:.4g}</text>'
        f'<text x="{width - _MARGIN}" y="{height - 20}" text-anchor="end" fill="#999">step {x[-1]:,.0f}</text>'
        f'<polyline points="{path}" fill="none" stroke="#2f6fde" stroke-width="1.6"/></g>'
    )
