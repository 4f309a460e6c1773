"""Shows progress: live lines in a terminal, plain lines elsewhere (CI, Docker logs).

Both go to standard error, because standard output is for results.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS = 30.0
"""Minimum time between two plain lines, of any work."""

LABELS = {"kl": "KL", "test_accuracy": "held-out accuracy", "tokens_per_second": "tokens/s"}
"""Label of a metric in a line, if it differs from the metric's name."""


@dataclass(frozen=True)
class Reading:
    """The progress of a piece of work: `done` of `total` units.

    The work began in this process `seconds` ago, when `first` units were already done. `values` are its latest metrics. If `total` is 0,
    the amount of work is unknown.
    """

    what: str
    unit: str
    done: int
    total: int
    first: int = 0
    seconds: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the mean speed so far; None before the first unit."""
        made = self.done - self.first
        return self.seconds / made * max(self.total - self.done, 0) if made > 0 else None

    @property
    def state(self) -> str:
        """Units, metrics and time left as text, without the name of the work."""
        if not self.total:
            return "running"
        parts = [f"{self.unit} {self.done:,} of {self.total:,}"]
        parts += [f"{LABELS.get(name, name.replace('_', ' '))} {_number(value)}" for name, value in self.values.items()]
        if self.seconds_left is not None and self.done < self.total:
            parts.append(f"{_clock(self.seconds_left)} left")
        return ", ".join(parts)

    @property
    def line(self) -> str:
        """The name and the state, as a line of a log."""
        return f"{self.what}: {self.state}"


class Lines:
    """Plain lines: at most one every `LINE_SECONDS`."""

    def __init__(self, write: Callable[[str], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._last = clock()

    def __call__(self, reading: Reading) -> None:
        """Write the reading, if enough time has passed since the last line."""
        now = self._clock()
        if now - self._last >= LINE_SECONDS and not (reading.ended and not reading.total):
            self._last = now
            self._write(reading.line + "\n")


class Terminal:
    """Live lines, one per piece of work, redrawn in place. A line disappears when its work ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._lines: dict[str, TaskID] = {}
        atexit.register(self._close)

    def __call__(self, reading: Reading) -> None:
        """Show the reading."""
        with self._lock:
            if reading.ended:
                self._end(reading.what)
                return
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
            total = reading.total or None
            if reading.what not in self._lines:
                self._lines[reading.what] = self._bars.add_task(reading.what, total=total, state=reading.state)
            self._bars.update(self._lines[reading.what], completed=reading.done, total=total, state=reading.state, refresh=True)

    def _end(self, what: str) -> None:
        if self._bars is not None and what in self._lines:
            self._bars.remove_task(self._lines.pop(what))
            if not self._lines:
                self._bars.stop()
                self._bars = None

    def _close(self) -> None:
        with self._lock:
            for what in list(self._lines):
                self._end(what)


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    class OwnConsole(Console):
        def show_cursor(self, show: bool = True) -> bool:
            """Never hide the cursor: a killed run could not show it again."""
            return False

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(20),
        TextColumn("{task.fields[state]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        TimeElapsedColumn(),
        console=OwnConsole(file=sys.stderr),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        expand=True,
    )


_display: Lines | Terminal | None = None
_choosing = threading.Lock()


def show(reading: Reading) -> None:
    """Show a reading on standard error of this process."""
    global _display
    with _choosing:
        if _display is None:
            _display = Terminal() if is_terminal() else Lines(lambda text: print(text, end="", file=sys.stderr, flush=True))
    _display(reading)


def is_terminal() -> bool:
    """Whether standard error is a terminal on which lines can be redrawn."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    """Format a duration in hours, minutes and seconds, without leading zeros."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min" if minutes >= 10 else f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
