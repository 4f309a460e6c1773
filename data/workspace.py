"""What a stage works with: a folder that becomes the artifact, a scratch folder that survives a kill, progress and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tqdm.auto import tqdm

from data.files import atomic_path

ProgressListener = Callable[[str, int, int], None]
"""Called with (what, done, total), at most once a second for each piece of work."""


class Bar:
    """One piece of work in progress: a bar with rate and time left in a terminal, and the listeners' view of it."""

    def __init__(self, what: str, total: int, unit: str, done: int, listeners: list[ProgressListener], quiet: bool) -> None:
        self.what, self.total, self.done = what, total, done
        self._listeners = listeners
        self._last_told = 0.0
        self._bar = tqdm(total=total, initial=done, unit=unit, desc=what, disable=quiet or None, leave=False, dynamic_ncols=True)

    def advance(self, count: int = 1) -> None:
        """Add finished units."""
        self.done += count
        self._bar.update(count)
        now = time.monotonic()
        if now - self._last_told >= 1.0:
            self._tell(now)

    def note(self, **values: float | str) -> None:
        """Show figures beside the bar, the loss for example."""
        self._bar.set_postfix(values, refresh=False)

    def _tell(self, now: float) -> None:
        self._last_told = now
        for listener in self._listeners:
            listener(self.what, self.done, self.total)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()
        self._tell(time.monotonic())


@dataclass
class Progress:
    """Starts bars. Library code takes one of these and needs to know nothing about who is watching. A quiet one shows nothing."""

    listeners: list[ProgressListener] = field(default_factory=list)
    quiet: bool = False

    def track(self, what: str, total: int, unit: str = "it", done: int = 0) -> Bar:
        """Use as a context manager: `with progress.track("train", steps, "step") as bar: bar.advance()`."""
        return Bar(what, total, unit, done, self.listeners, self.quiet)


class MetricLog:
    """Metrics as time series: one JSON line {"step", "time", "values"} a call, in `metrics.jsonl` of the artifact."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, step: int, **values: float | int | None) -> None:
        """Append figures of one step. `None` values are left out."""
        record = {
            "step": step,
            "time": round(time.time(), 3),
            "values": {k: v for k, v in values.items() if v is not None},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def rewind(self, step: int) -> None:
        """Drop records of steps after `step`, and a line cut short by a kill; call it when resuming from a checkpoint of that step."""
        if not self.path.exists():
            return
        kept = [line for line in self._whole_lines() if json.loads(line)["step"] <= step]
        with atomic_path(self.path) as path:
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def read(self) -> list[dict]:
        """All records, oldest first."""
        return [json.loads(line) for line in self._whole_lines()] if self.path.exists() else []

    def _whole_lines(self) -> list[str]:
        text = self.path.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()


@dataclass(frozen=True)
class Workspace:
    """Handed to every stage's library function.

    `out` becomes the artifact when the stage ends. `scratch` holds checkpoints and finished shards; both survive a kill and are found
    again by the next run of the same stage with the same config and inputs, so whatever is in them must be whole or recognisably not.
    `scratch` is deleted once the artifact is published.
    """

    out: Path
    scratch: Path
    progress: Progress
    metrics: MetricLog

    @classmethod
    def at(cls, folder: Path, progress: Progress | None = None) -> Workspace:
        """A workspace in a plain folder, for notebooks and tests."""
        out, scratch = folder / "out", folder / "scratch"
        out.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        return cls(out, scratch, progress or Progress(), MetricLog(out / "metrics.jsonl"))
