"""The pieces a section is made of. The template has a macro for each kind; all text in them is escaped there.

A block that shows numbers or texts of artifacts has a `source`, which has no default: nobody adds a figure without saying where it is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from markupsafe import Markup

from data.report.source import Source


@dataclass(frozen=True)
class Interval:
    """A table cell: a share with the interval it lies in, drawn on a scale from 0 to 1."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Unfold:
    """A table cell of text that opens to further lines, each with a heading of its own (which may be empty)."""

    text: str
    lines: Sequence[tuple[str, str]]


Cell = str | Interval | Unfold


@dataclass(frozen=True)
class Table:
    """Rows of cells. A cell that is a number or a figure is set right, so `numeric` names the columns that hold them.

    With `search`, the words beside the search field, rows can be searched, and sorted by a click on a heading.
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
    """A plotly chart: `spec` is {"data", "layout"}; colours in it are written `@name` and resolved to the theme's."""

    kind: ClassVar[str] = "chart"
    title: str
    spec: dict[str, Any]
    note: str = ""
    wide: bool = False
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Step:
    """One step of an output with the reward model's score and the advantage of its last token, if it has its own.

    `role` is "text", "program" for a line of a program, or "output" for one of what a program printed.
    """

    text: str
    reward: float | None
    advantage: float | None = None
    role: str = "text"


@dataclass(frozen=True)
class Sample:
    """One output. `label` says whose, where that is not clear from the place."""

    steps: Sequence[Step]
    correct: bool
    finished: bool
    reward: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Group:
    """A question with outputs; `tally` sums up how many are right."""

    question: str
    gold: str
    tally: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Groups:
    """A browser of questions and outputs. `note` says how many of how many there are."""

    kind: ClassVar[str] = "groups"
    title: str
    groups: Sequence[Group]
    note: str = ""
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class ProgramRun:
    """What came of a program in an answer: its output, its error included."""

    output: str
    failed: bool


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer with the verdict's reason; `answered` is None where no answer was found in `text`."""

    question: str
    gold: str
    answered: str | None
    why: str
    text: str
    runs: Sequence[ProgramRun]


@dataclass(frozen=True)
class VerdictGroup:
    """A policy's answers in one format. `reasons` sums up why the wrong ones are."""

    label: str
    tally: str
    reasons: str
    right: Sequence[JudgedAnswer]
    wrong: Sequence[JudgedAnswer]


@dataclass(frozen=True)
class Verdicts:
    """A browser of right and wrong answers side by side. `note` says how they were chosen."""

    kind: ClassVar[str] = "verdicts"
    title: str
    note: str
    groups: Sequence[VerdictGroup]
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Fold:
    """Preformatted text behind a line that opens it."""

    kind: ClassVar[str] = "fold"
    title: str
    text: str


@dataclass(frozen=True)
class Piece:
    """A stretch of a page's text: plain, or a formula with its MathML (None where it cannot be rendered)."""

    text: str
    mathml: Markup | None = None
    formula: bool = False
    display: bool = False


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a page. `facts` stand beside its title."""

    title: str
    url: str
    facts: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Excerpts:
    """Pages to read, folded away one by one."""

    kind: ClassVar[str] = "excerpts"
    title: str
    note: str
    pages: Sequence[Excerpt]
    source: Source = field(kw_only=True)


@dataclass(frozen=True)
class Picture:
    """An SVG picture in two shapes: from left to right for wide screens, from top to bottom for narrow ones."""

    kind: ClassVar[str] = "picture"
    title: str
    across: Markup
    down: Markup
    note: str = ""
    source: Source = field(kw_only=True)


Block = Table | Bars | Chart | Groups | Verdicts | Fold | Excerpts | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page. `lead` says what it shows and how to read it."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default_factory=list)


def count(value: float | None) -> str:
    """A whole number with thousands separated; a dash for nothing."""
    return "–" if value is None else f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def figure(value: float | None, digits: int = 3) -> str:
    """A number to `digits` decimals."""
    return "–" if value is None else f"{value:.{digits}f}"


def short(value: float) -> str:
    """A count in a few characters: 1,234 or 56.7 k or 1.2 B."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return count(value)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def number(summary: Mapping[str, Any], name: str) -> float | None:
    """A figure of a summary, None where the stage did not give it."""
    value = summary.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
