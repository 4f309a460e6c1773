"""Processes that work through a list of jobs, with progress; the same results in the same order for any number of them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, TypeVar

from data.errors import MathQuarryError
from data.workspace import Progress

Result = TypeVar("Result")


class WorkerPool:
    """A pool of `workers` processes, used as a context manager; with one worker everything runs in this process.

    Functions must be importable (module level) and their arguments picklable. Workers end when this process ends,
    however it ends.
    """

    def __init__(self, workers: int, progress: Progress) -> None:
        self._progress = progress
        self._executor: ProcessPoolExecutor | None = None
        if workers > 1:
            self._executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)

    def run(self, what: str, unit: str, function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]]) -> list[Result]:
        """Call `function(*job)` for every job and return the results in the order of the jobs.

        Raises what a job raises, after cancelling the jobs that have not begun, and `MathQuarryError` when a worker
        process was killed.
        """
        with self._progress.track(what, len(jobs), unit) as bar:
            if self._executor is None:
                results = []
                for job in jobs:
                    results.append(function(*job))
                    bar.advance()
                return results
            futures: list[Future[Result]] = [self._executor.submit(function, *job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.advance()
            except BrokenProcessPool:
                raise MathQuarryError(
                    f"a worker process was killed during '{what}', most likely for lack of memory. "
                    "Lower `workers` of the mine section, then run again: finished files are kept."
                ) from None
            finally:
                for future in futures:
                    future.cancel()
            return [future.result() for future in futures]

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for work for ever: watch for its end."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a pool worker has a parent process"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
