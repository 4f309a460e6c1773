"""The workspace of a stage: a folder that becomes the artifact, a scratch folder that survives a kill, progress and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from mathquarry.data.files import atomic_path
from mathquarry.data.store.display import Reading, show

TELL_SECONDS = 1.0

ProgressListener = Callable[[Reading], None]
"""Called when a piece of work begins and ends, and at most once per second in between."""


class Bar:
    """A piece of work: its progress and its latest metrics."""

    def __init__(self, what: str, total: int, unit: str, done: int, tell: ProgressListener) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._first, self._tell = done, tell
        self._began = self._told = time.monotonic()
        self._values: dict[str, float] = {}

    def advance(self, count: int = 1) -> None:
        """Add finished units."""
        self.done += count
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self._tell(self._reading())

    def note(self, **values: float | None) -> None:
        """Show metrics next to the bar, for example the loss. `None` keeps the previous value."""
        self._values |= {name: value for name, value in values.items() if value is not None}

    def _reading(self, ended: bool = False) -> Reading:
        seconds = time.monotonic() - self._began
        return Reading(self.what, self.unit, self.done, self.total, self._first, seconds, dict(self._values), ended)

    def __enter__(self) -> Bar:
        self._tell(self._reading())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tell(self._reading(ended=True))


@dataclass
class Progress:
    """Creates progress bars. Library code gets one of these, and need not know where progress is shown.

    If it is `quiet`, nothing is shown in this process, and only the listeners are called.
    """

    listeners: list[ProgressListener] = field(default_factory=list)
    quiet: bool = False

    def track(self, what: str, total: int, unit: str = "it", done: int = 0) -> Bar:
        """Use as a context manager: `with progress.track("train", steps, "step") as bar: bar.advance()`."""
        return Bar(what, total, unit, done, self.tell)

    def tell(self, reading: Reading) -> None:
        """Show a reading in this process, and call the listeners with it."""
        if not self.quiet:
            show(reading)
        for listener in self.listeners:
            listener(reading)


class MetricLog:
    """Time series of metrics: `metrics.jsonl` of the artifact, with a JSON line {"step", "time", "values"} per call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, step: int, **values: float | int | None) -> None:
        """Append the metrics of one step. `None` values are left out."""
        record = {
            "step": step,
            "time": round(time.time(), 3),
            "values": {k: v for k, v in values.items() if v is not None},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def rewind(self, step: int) -> None:
        """Remove records after `step`, and an incomplete last line. Call this when resuming from a checkpoint of that step."""
        if not self.path.exists():
            return
        kept = [line for line in self._whole_lines() if json.loads(line)["step"] <= step]
        with atomic_path(self.path) as path:
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def read(self) -> list[dict]:
        """Return all records, oldest first."""
        return [json.loads(line) for line in self._whole_lines()] if self.path.exists() else []

    def _whole_lines(self) -> list[str]:
        text = self.path.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()


@dataclass(frozen=True)
class Workspace:
    """The environment of a stage's library function.

    `out` becomes the artifact when the stage ends. `scratch` holds checkpoints and finished shards, and is deleted when the artifact is
    published. Both survive a kill: the next run of the stage with the same config and inputs finds their files. So every file in them must
    be complete, or recognizable as incomplete.
    """

    out: Path
    scratch: Path
    progress: Progress
    metrics: MetricLog

    @classmethod
    def at(cls, folder: Path | str, progress: Progress | None = None) -> Workspace:
        """Create a workspace in a plain folder, for notebooks and tests."""
        out, scratch = Path(folder) / "out", Path(folder) / "scratch"
        out.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        return cls(out, scratch, progress or Progress(), MetricLog(out / "metrics.jsonl"))
