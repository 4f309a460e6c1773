"""Runs a list of jobs with progress on processes, threads or a Ray cluster, always with the same results in the same order.

A job is an importable function with picklable arguments. It reads and writes files and returns little, so it can run
anywhere. On a cluster, the files are on storage that every node mounts at the same path.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, TypeVar

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import WorkersConfig
from mathquarry.data.store.workspace import Progress

Result = TypeVar("Result")


class WorkerPool:
    """Workers according to `config`, used as a context manager. With one process or thread, everything runs in this process.

    Worker processes end when this process ends, however it ends. Raises `MathQuarryError` when Ray is requested but is not
    installed or does not answer.
    """

    def __init__(self, config: WorkersConfig, progress: Progress) -> None:
        self._progress = progress
        self._executor = _executor(config)

    def run(self, what: str, unit: str, function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]]) -> list[Result]:
        """Call `function(*job)` for every job and return the results in the order of the jobs.

        Raises what a job raises, after canceling the jobs that have not started, and `MathQuarryError` when a worker
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
                    f"a worker process was killed during '{what}'; when memory is short, the system kills the largest process. "
                    "In that case lower workers.count of the mine section, then run again: finished files are kept."
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


def _executor(config: WorkersConfig) -> Executor | None:
    if config.engine == "ray":
        return _RayExecutor(config.ray_address)
    if config.count == 1:
        return None
    if config.engine == "threads":
        return ThreadPoolExecutor(config.count)
    return ProcessPoolExecutor(config.count, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)


class _RayExecutor(Executor):
    """Jobs as Ray tasks of one core each; Ray repeats a task whose worker or node died, up to three times."""

    def __init__(self, address: str | None) -> None:
        try:
            import ray  # an optional dependency, and slow to import
        except ImportError:
            raise MathQuarryError("workers.engine = 'ray' needs the package ray: pip install 'mathquarry[ray]'.") from None
        self._ray = ray
        self._connected_here = not ray.is_initialized()
        if self._connected_here:
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise MathQuarryError(f"cannot reach the Ray cluster at workers.ray_address = {address}: {error}") from None

    def submit(self, function: Callable[..., Result], /, *arguments: Any, **options: Any) -> Future[Result]:
        """Schedule `function(*arguments, **options)` on the cluster."""
        task = self._ray.remote(num_cpus=1, max_retries=3)(function)
        return task.remote(*arguments, **options).future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, unless this process was already connected to it."""
        if self._connected_here:
            self._ray.shutdown()


def _end_with_parent() -> None:
    """Watch for the end of the parent: a killed parent cannot stop its workers, and they would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a pool worker has a parent process"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
