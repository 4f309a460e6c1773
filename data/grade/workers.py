"""Manages the processes in which math-verify checks answers that need algebra: starts them, asks them, and kills slow ones."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mathquarry
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.verdict import Verdict

START_SECONDS = 120.0
"""Time limit for a worker's start, which imports sympy; if it takes longer, something is broken."""

PATIENCE = 10
"""A worker's limit is CPU time; on a busy machine, it may take this many times as long by the clock."""

_REPLIES = {b"1": Verdict(True, "equal"), b"0": Verdict(False, "different"), b"e": Verdict(False, "unreadable")}

_TIMED_OUT = Verdict(False, "timed out")

_CRASHED = Verdict(False, "checker crashed")


class Worker:
    """One checker process (`data/grade/worker.py`) and its current task."""

    def __init__(self) -> None:
        root = str(Path(mathquarry.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `kill`)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mathquarry.data.grade.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self.alive, self.ready = True, False
        self.task: int | None = None
        self.deadline = time.monotonic() + START_SECONDS

    def is_running(self) -> bool:
        """False if it was killed while idle, for example by the kernel's OOM killer."""
        if self.process.poll() is not None:
            self.kill()
        return self.alive

    def ask(self, number: int, question: tuple[str, str], seconds: float) -> None:
        """Send one question, which may take `seconds` of CPU time."""
        assert self.process.stdin is not None
        self.task, self.deadline = number, time.monotonic() + PATIENCE * seconds
        try:
            self.process.stdin.write(json.dumps([*question, seconds]).encode() + b"\n")
        except BrokenPipeError:
            self.deadline = 0.0  # it died while idle; the question gets its verdict from `expire`

    def take_reply(self) -> tuple[int, Verdict] | None:
        """Read the waiting byte. Returns None if it means "ready". End of file means that the process died."""
        assert self.process.stdout is not None
        reply = self.process.stdout.read(1)
        if not reply:
            return self._died(_TIMED_OUT if self.process.wait() == -signal.SIGPROF else _CRASHED)
        task, self.task = self.task, None
        if not self.ready:
            self.ready, self.deadline = True, float("inf")
            return None
        self.deadline = float("inf")
        assert task is not None, "a worker replied without a question"
        return task, _REPLIES[reply]

    def expire(self) -> tuple[int, Verdict] | None:
        """Kill the worker because its time is up."""
        return self._died(_TIMED_OUT)

    def _died(self, verdict: Verdict) -> tuple[int, Verdict] | None:
        was_ready, task = self.ready, self.task
        reason = self._last_words()
        self.kill()
        if not was_ready:
            raise MathQuarryError(f"the answer checker did not start: {reason}. Is math-verify[antlr4_13_2] installed?")
        return None if task is None else (task, verdict)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"no message within {START_SECONDS:.0f} s"

    def kill(self) -> None:
        """End the process and close its pipes."""
        self.alive = False
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                stream.close()


def collect(workers: list[Worker]) -> list[tuple[int, Verdict]]:
    """Wait for the next replies or deadlines of `workers` and return the resulting verdicts."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            assert worker.process.stdout is not None
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        wait = max(0.0, min(worker.deadline for worker in workers) - time.monotonic())
        replied = [key.data for key, _ in selector.select(None if wait == float("inf") else wait)]
    results = [worker.take_reply() for worker in replied]
    now = time.monotonic()
    results += [worker.expire() for worker in workers if worker not in replied and worker.deadline <= now]
    return [result for result in results if result is not None]
