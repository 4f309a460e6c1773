"""Forwards the progress of rank 0 to the process that started the ranks."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mathquarry.data.store.display import Reading
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
    """Inside the block, pass on what rank 0 reports to `progress`."""
    ended = threading.Event()

    def relay() -> None:
        position = 0
        while True:
            last = ended.wait(POLL_SECONDS)
            if path.exists():
                with path.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                position += len(whole)
                for line in whole.splitlines():
                    progress.tell(Reading(**json.loads(line)))
            if last:
                return

    # The listeners of a flow run need its context.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(relay,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
