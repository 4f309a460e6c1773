"""Forwards the progress of rank 0 to the process that started the ranks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mathquarry.data.store.display import Reading
from mathquarry.data.store.polling import every
from mathquarry.data.store.workspace import Progress

POLL_SECONDS = 0.5
"""How often progress is forwarded, and how often a rank checks that the process that started it is alive."""


class ForwardProgress:
    """A progress listener that writes to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, reading: Reading) -> None:
        """Add a line to the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(reading)) + "\n")


@contextmanager
def relayed_progress(path: Path, progress: Progress) -> Iterator[None]:
    """Inside the block, pass on to `progress` what rank 0 reports."""
    position = 0

    def relay(last: bool) -> None:
        nonlocal position
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(position)
            text = file.read()
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            position += len(line)
            progress.tell(Reading(**json.loads(line)))

    with every(POLL_SECONDS, relay, "the progress of the ranks"):
        yield
