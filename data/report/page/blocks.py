"""The blocks of a section. The template has a macro for each kind, and escapes all text in them.

A block with numbers or texts from artifacts has a `source`. The field has no default, so every number must have a source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from markupsafe import Markup

from mathquarry.data.report.page.source import Source


@dataclass(frozen=True)
class Interval:
    """A table cell with a share and its interval, drawn on a scale from 0 to 1."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Unfold:
    """A table cell that opens to show more lines, each with its own heading (which can be empty)."""

    text: str
    lines: Sequence[tuple[str, str]]


Cell = str | Interval | Unfold


@dataclass(frozen=True)
class Table:
    """Rows of cells. `numeric` lists the columns with numbers, which are aligned right.

    With `search` (the label of the search field), rows can be searched, and sorted with a click on a heading.
    """

    kind: ClassVar[str] = "table"
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()
    title: str = ""
    mono: frozenset[int] = frozenset()
    note: str = ""
    search: str = ""
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Bar:
    """One bar: `share` of the full width in [0, 1]; `tone` is a class of the style sheet."""

    label: str
    value: str
    share: float
    note: str = ""
    tone: str = "main"


@dataclass(frozen=True)
class Bars:
    """Horizontal bars with their labels, drawn in HTML."""

    kind: ClassVar[str] = "bars"
    rows: Sequence[Bar]
    title: str = ""
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Chart:
    """A plotly chart. `spec` is {"data", "layout"}. Colours in it are written `@name`, and resolved to the theme's colours."""

    kind: ClassVar[str] = "chart"
    title: str
    spec: dict[str, Any]
    note: str = ""
    wide: bool = False
    tall: bool = False
    """Higher than other charts: several panels, one below the other."""
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Step:
    """A step of a completion, with the reward model's score and the advantage of its last token, if any.

    `role` is "text", "program" for a line of a program, or "output" for a line of its output.
    """

    text: str
    reward: float | None
    advantage: float | None = None
    role: str = "text"


@dataclass(frozen=True)
class Sample:
    """One completion. `label` says which policy it is from, if needed."""

    steps: Sequence[Step]
    correct: bool
    finished: bool
    reward: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Group:
    """A question with completions. `tally` says how many are correct."""

    question: str
    gold: str
    tally: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Groups:
    """A browser for questions and completions. `note` says how many are shown."""

    kind: ClassVar[str] = "groups"
    title: str
    groups: Sequence[Group]
    note: str = ""
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class ProgramRun:
    """A program in an answer, and its output with errors."""

    output: str
    failed: bool


@dataclass(frozen=True)
class GradedAnswer:
    """An answer with the reason of its grade. `answered` is None if no answer was found in `text`."""

    question: str
    gold: str
    answered: str | None
    why: str
    text: str
    runs: Sequence[ProgramRun]


@dataclass(frozen=True)
class VerdictGroup:
    """A policy's answers in one format. `reasons` counts the reasons of wrong answers."""

    label: str
    tally: str
    reasons: str
    right: Sequence[GradedAnswer]
    wrong: Sequence[GradedAnswer]


@dataclass(frozen=True)
class Verdicts:
    """A browser for correct and wrong answers side by side. `note` says how they were chosen."""

    kind: ClassVar[str] = "verdicts"
    title: str
    note: str
    groups: Sequence[VerdictGroup]
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Fold:
    """Preformatted text that is folded away."""

    kind: ClassVar[str] = "fold"
    title: str
    text: str


@dataclass(frozen=True)
class Piece:
    """A part of a page's text: plain, or a formula with its MathML (None if it cannot be converted)."""

    text: str
    mathml: Markup | None = None
    formula: bool = False
    display: bool = False


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a page. `facts` are shown next to its title."""

    title: str
    url: str
    facts: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Excerpts:
    """Pages to read, each folded away."""

    kind: ClassVar[str] = "excerpts"
    title: str
    note: str
    pages: Sequence[Excerpt]
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Picture:
    """An SVG image in two layouts: left to right for wide screens, top to bottom for narrow ones."""

    kind: ClassVar[str] = "picture"
    title: str
    across: Markup
    down: Markup
    note: str = ""
    source: Source = field(kw_only=True)


Block = Table | Bars | Chart | Groups | Verdicts | Fold | Excerpts | Picture


@dataclass(frozen=True)
class Section:
    """A section of the page. `lead` explains its content."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default_factory=list)


def count(value: float | None) -> str:
    """Format a whole number with thousands separators; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share of 1 as a percentage."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def rounded(value: float | None, digits: int = 3) -> str:
    """Format a number with `digits` decimals."""
    return "–" if value is None else f"{value:.{digits}f}"


def short(value: float) -> str:
    """Format a count in a few characters: 1,234 or 56.7 k or 1.2 B."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return count(value)


def duration(seconds: float) -> str:
    """Format seconds, minutes or hours, with a suitable unit."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def number(summary: Mapping[str, Any], name: str) -> float | None:
    """Return a metric of a summary; None if the stage did not return it."""
    value = summary.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
