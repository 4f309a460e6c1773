"""Is this answer right? Plain cases are decided here, algebra by math-verify in processes that are killed when they take too long.

Model output is hostile input: nothing is evaluated, nothing long is parsed, and what runs out of time, runs out of memory or crashes
is a wrong answer with that reason. The policies are stated in docs/grading.md.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
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
from typing import NamedTuple

from data.config import GradeConfig
from data.errors import MathQuarryError
from data.grade.compare import compare
from data.grade.lexer import FULL_WIDTH, MAX_CHARACTERS, tidy
from data.grade.structure import blanks, read_choices
from data.solutions.answers import extract_answer

START_SECONDS = 120.0
"""A worker imports sympy before it is ready; longer than this means that something is broken."""

PATIENCE = 10
"""A worker's limit is processor time; by the clock it may take this many times as long, on a machine with much else to do."""

CACHE_ENTRIES = 100_000


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and what decided it: "equal numbers", "timed out", "no answer", ..."""

    correct: bool
    reason: str


class _Pair(NamedTuple):
    """A gold answer, a given one, and the relative error of a number that is still right."""

    gold: str
    given: str
    tolerance: float = 0.0


_REPLIES = {b"1": Verdict(True, "equal"), b"0": Verdict(False, "different"), b"e": Verdict(False, "unreadable")}
_TIMED_OUT = Verdict(False, "timed out")
_CRASHED = Verdict(False, "checker crashed")


class Checker:
    """Compares answers. A context manager; workers start when the first hard pair arrives and end with the block. Thread-safe."""

    def __init__(self, config: GradeConfig) -> None:
        self._config = config
        self._workers: list[_Worker] = []
        self._verdicts: dict[_Pair, Verdict] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A later call starts new ones."""
        with self._lock:
            self._end_workers()

    def grade(self, text: str, gold: str, tolerance: float = 0.0) -> Verdict:
        """Grade one output by its `\\boxed{}` answer."""
        return self.grade_many([(text, gold)], [tolerance])[0]

    def grade_many(self, pairs: Sequence[tuple[str, str]], tolerances: Sequence[float] | None = None) -> list[Verdict]:
        """Grade (output text, gold answer) pairs; the verdicts are in the same order.

        An output without a boxed answer is wrong ("no answer"). `tolerances` are the relative errors up to which a number is right (none:
        all 0). Raises `MathQuarryError` when no worker can be started.
        """
        return self.grade_answers([(extract_answer(text), gold) for text, gold in pairs], tolerances)

    def grade_answers(self, pairs: Sequence[tuple[str | None, str]], tolerances: Sequence[float] | None = None) -> list[Verdict]:
        """`grade_many` for answers that were extracted before; `None` is no answer."""
        limits = tolerances or [0.0] * len(pairs)
        found = [_Pair(gold, answer, tolerance) for (answer, gold), tolerance in zip(pairs, limits, strict=True) if answer is not None]
        verdicts = iter(self._compare(found))
        return [Verdict(False, "no answer") if answer is None else next(verdicts) for answer, _ in pairs]

    def same(self, a: str, b: str) -> bool:
        """Whether two answers (not whole outputs) mean the same, for majority voting. Symmetric."""
        first, second = sorted((a, b))
        return self._compare([_Pair(first, second)])[0].correct

    def _compare(self, pairs: Sequence[_Pair]) -> list[Verdict]:
        """Verdicts on answers; where a gold answer fills several blanks, each must be right, and the first wrong one gives the reason."""
        blanks = [_blanks(pair) for pair in pairs]
        verdicts = iter(self._compare_blanks([blank for parts in blanks for blank in parts]))
        results = []
        for parts in blanks:
            found = [next(verdicts) for _ in parts]
            results.append(next((verdict for verdict in found if not verdict.correct), found[-1]))
        return results

    def _compare_blanks(self, pairs: Sequence[_Pair]) -> list[Verdict]:
        """Known verdicts, then easy ones, then the workers' for the rest."""
        with self._lock:
            if len(self._verdicts) > CACHE_ENTRIES:
                self._verdicts.clear()
            verdicts: dict[_Pair, Verdict] = {}
            hard: dict[_Pair, tuple[str, str]] = {}
            for pair in pairs:
                if pair in verdicts or pair in hard:
                    continue
                if pair in self._verdicts:
                    verdicts[pair] = self._verdicts[pair]
                    continue
                easy = _easy(pair)
                if isinstance(easy, Verdict):
                    verdicts[pair] = easy
                else:
                    hard[pair] = easy
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


def _blanks(pair: _Pair) -> list[_Pair]:
    if max(len(pair.gold), len(pair.given)) > MAX_CHARACTERS:
        return [pair]
    return [pair._replace(gold=gold, given=given) for gold, given in blanks(pair.gold, pair.given.translate(FULL_WIDTH))]


def _easy(pair: _Pair) -> Verdict | tuple[str, str]:
    """The verdict where no algebra is needed, else the (gold, given) LaTeX for a worker."""
    if max(len(pair.gold), len(pair.given)) > MAX_CHARACTERS:
        return Verdict(False, "answer too long")
    choices = read_choices(pair.gold, alone=True)
    if choices is not None:
        chosen = read_choices(pair.given, alone=False)
        if chosen is not None:
            return Verdict(True, "same choice") if chosen == choices else Verdict(False, "another choice")
    outcome = compare(pair.gold, pair.given, pair.tolerance)
    return Verdict(outcome.equal, outcome.reason) if outcome else (tidy(pair.gold), tidy(pair.given))


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
        """Hand over one question, which may take so many seconds of processor time."""
        assert self.process.stdin is not None
        self.task, self.deadline = number, time.monotonic() + PATIENCE * seconds
        try:
            self.process.stdin.write(json.dumps([*question, seconds]).encode() + b"\n")
        except BrokenPipeError:
            self.deadline = 0.0  # it died while idle; the question gets its verdict from `expire`

    def take_reply(self) -> tuple[int, Verdict] | None:
        """Read the byte that is waiting. None for the byte that says "ready". End of file means that the process died."""
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
