"""Limits the connections to a host over all processes of this machine, and observes the pauses that the host asks for.

Each host has a folder below the system's temporary folder. It contains a lock file per connection, and a file with the
time before which nobody may connect. A lock is released when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.1
_LONGEST_NAP = 5.0


class HostSlots:
    """The connections to `host` that this machine may hold; `folder` is for tests."""

    def __init__(
        self,
        host: str,
        connections: int,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        shared = folder or Path(tempfile.gettempdir()) / f"mathquarry-{os.getuid()}" / "hosts"
        self._folder = shared / re.sub(r"[^\w.-]", "_", host)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._locks = [self._folder / f"{number}.lock" for number in range(connections)]
        self._clock, self._sleep = clock, sleep

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Wait for the host's pause to end and for a free connection; hold the connection during the block."""
        descriptor = self._take()
        try:
            yield
        finally:
            os.close(descriptor)

    def pause(self, seconds: float) -> None:
        """Keep this machine from connecting for this many seconds. A longer pause stays in effect."""
        until = self._clock() + seconds
        if until > self._paused_until():
            temporary = self._folder / f"until.{os.getpid()}.{random.getrandbits(32):08x}"
            temporary.write_text(repr(until), encoding="ascii")
            temporary.replace(self._folder / "until")

    def _take(self) -> int:
        while True:
            if (wait := self._paused_until() - self._clock()) > 0:
                self._sleep(min(wait, _LONGEST_NAP))
                continue
            for path in random.sample(self._locks, len(self._locks)):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    os.close(descriptor)
            self._sleep(random.uniform(0, 2 * _POLL_SECONDS))

    def _paused_until(self) -> float:
        try:
            return float((self._folder / "until").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return 0.0
