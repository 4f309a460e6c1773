"""Is this answer right? Plain cases are decided here, algebra by math-verify in processes that are killed when they take too long.

Model output is hostile input: nothing is evaluated, nothing long is parsed, and what runs out of time, runs out of memory or crashes
is a wrong answer with that reason. The policies on units, commas and decimals are in `data/grade/plain.py`.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from data.config import GradeConfig
from data.errors import MathQuarryError
from data.grade.plain import MAX_CHARACTERS, decide, read_answer
from data.solutions.answers import extract_answer

START_SECONDS = 120.0
"""A worker imports sympy before it is ready; longer than this means that something is broken."""

CACHE_ENTRIES = 100_000


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and what decided it: "equal numbers", "timed out", "no answer", ..."""

    correct: bool
    reason: str


_REPLIES = {b"1": Verdict(True, "equal"), b"0": Verdict(False, "different"), b"e": Verdict(False, "unreadable")}
_TIMED_OUT = Verdict(False, "timed out")
_CRASHED = Verdict(False, "checker crashed")


class Checker:
    """Compares answers. A context manager; workers start when the first hard pair arrives and end with the block. Thread-safe."""

    def __init__(self, config: GradeConfig) -> None:
        self._config = config
        self._workers: list[_Worker] = []
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A later call starts new ones."""
        with self._lock:
            self._end_workers()

    def grade(self, text: str, gold: str) -> Verdict:
        """Grade one output by its last `\\boxed{}` answer."""
        return self.grade_many([(text, gold)])[0]

    def grade_many(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Grade (output text, gold answer) pairs; the verdicts are in the same order.

        An output without a boxed answer is wrong ("no answer"). Raises `MathQuarryError` when no worker can be started.
        """
        answers = [extract_answer(text) for text, _ in pairs]
        found = [(gold, answer) for answer, (_, gold) in zip(answers, pairs, strict=True) if answer is not None]
        verdicts = iter(self._compare(found))
        return [Verdict(False, "no answer") if answer is None else next(verdicts) for answer in answers]

    def same(self, a: str, b: str) -> bool:
        """Whether two answers (not whole outputs) mean the same, for majority voting. Symmetric."""
        first, second = sorted((a, b))
        return self._compare([(first, second)])[0].correct

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Verdicts for (gold, given) answers: known ones, then easy ones, then the workers' for the rest."""
        with self._lock:
            if len(self._verdicts) > CACHE_ENTRIES:
                self._verdicts.clear()
            verdicts: dict[tuple[str, str], Verdict] = {}
            hard: dict[tuple[str, str], tuple[str, str]] = {}
            for pair in pairs:
                if pair in verdicts or pair in hard:
                    continue
                if pair in self._verdicts:
                    verdicts[pair] = self._verdicts[pair]
                elif (verdict := _easy(*pair)) is not None:
                    verdicts[pair] = verdict
                else:
                    hard[pair] = (read_answer(pair[0]).body, read_answer(pair[1]).body)
            if hard:
                verdicts.update(zip(hard, self._ask_workers(list(hard.values())), strict=True))
            self._verdicts.update(verdicts)
            return [verdicts[pair] for pair in pairs]

    def _ask_workers(self, questions: list[tuple[str, str]]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        waiting = deque(enumerate(questions))
        try:
            self._workers = [worker for worker in self._workers if worker.is_running()]
            while len(self._workers) < min(self._config.workers, len(questions)):
                self._workers.append(_Worker())
            while len(verdicts) < len(questions):
                for worker in self._workers:
                    if worker.ready and worker.task is None and waiting:
                        worker.ask(*waiting.popleft(), self._config.timeout_seconds)
                for number, verdict in _collect(self._workers):
                    verdicts[number] = verdict
                # Replace only what the rest of the work needs: an idle worker more would cost seconds of imports.
                self._workers = [worker for worker in self._workers if worker.alive]
                missing = min(self._config.workers, len(waiting)) - len(self._workers)
                self._workers.extend(_Worker() for _ in range(missing))
        except BaseException:
            self._end_workers()  # their pipes are in an unknown state
            raise
        return [verdicts[number] for number in range(len(questions))]

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []


def _easy(gold: str, given: str) -> Verdict | None:
    if len(given) > MAX_CHARACTERS or len(gold) > MAX_CHARACTERS:
        return Verdict(False, "answer too long")
    decided = decide(read_answer(gold), read_answer(given))
    return Verdict(*decided) if decided else None


class _Worker:
    """One checker process (`data/grade/worker.py`) and what it is busy with."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `kill`)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "data.grade.worker"],
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
        """False when it was killed while idle, by the system's memory guard for example."""
        if self.process.poll() is not None:
            self.kill()
        return self.alive

    def ask(self, number: int, question: tuple[str, str], seconds: float) -> None:
        """Hand over one question; the clock starts now."""
        assert self.process.stdin is not None
        self.task, self.deadline = number, time.monotonic() + seconds
        try:
            self.process.stdin.write(json.dumps([*question, seconds]).encode() + b"\n")
        except BrokenPipeError:
            self.deadline = 0.0  # it died while idle; the question gets its verdict from `expire`

    def take_reply(self) -> tuple[int, Verdict] | None:
        """Read the byte that is waiting. None for the byte that says "ready". End of file means that the process died."""
        assert self.process.stdout is not None
        reply = self.process.stdout.read(1)
        if not reply:
            return self._died(_CRASHED)
        task, self.task = self.task, None
        if not self.ready:
            self.ready, self.deadline = True, float("inf")
            return None
        self.deadline = float("inf")
        assert task is not None, "a worker replied without a question"
        return task, _REPLIES[reply]

    def expire(self) -> tuple[int, Verdict] | None:
        """Kill it, its time being up."""
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
        """End the process and let go of its pipes."""
        self.alive = False
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                stream.close()


def _collect(workers: list[_Worker]) -> list[tuple[int, Verdict]]:
    """Wait for the next replies or deadlines of `workers` and return the verdicts they bring."""
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
