"""Looks at something every few seconds in a thread of its own, while a block of code runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

logger = logging.getLogger("mathquarry")

LAST_SECONDS = 60.0
"""Longest wait for the last look, so that a server that does not answer cannot hold the work up."""


@contextmanager
def every(seconds: float, look: Callable[[bool], None], what: str, last_seconds: float = LAST_SECONDS) -> Iterator[None]:
    """While the block runs, call `look(False)` every `seconds` in a thread. After the block, call `look(True)` once.

    The thread has the caller's context variables, for example Prefect's flow run. A look that fails is logged as a failed update of `what`,
    and the next look is made all the same. An error that repeats is logged once. The block's end waits at most `last_seconds` for the last
    look; after that, the thread is left to finish by itself.
    """
    ended = threading.Event()
    logged: str | None = None

    def attempt(last: bool) -> None:
        nonlocal logged
        reason = None
        try:
            look(last)
        except Exception as error:  # of any kind: what is shown of the work must not stop it
            reason = f"{type(error).__name__}: {error}"
            if reason != logged:
                logger.warning("cannot update %s: %s", what, reason)
        logged = reason

    def run() -> None:
        while not ended.wait(seconds):
            attempt(False)
        attempt(True)

    thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True, name=what)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(last_seconds)
        if thread.is_alive():
            logger.warning("the last update of %s takes more than %g s; the work goes on without it", what, last_seconds)
