"""Decides whether an answer is right. math-verify handles algebra, in processes that are killed when they take too long.

Model output is hostile input: nothing is evaluated and nothing long is parsed. A check that runs out of time or memory or crashes makes
the answer wrong, with that reason. docs/grading.md states the policies.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from mathquarry.data.grade.compare import compare
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.grade.reading.notation import FULL_WIDTH, MAX_CHARACTERS, tidy
from mathquarry.data.grade.structure import blanks, read_choices
from mathquarry.data.grade.verdict import Verdict
from mathquarry.data.grade.workers import Worker, collect
from mathquarry.data.problems.answers import extract_answer

CACHE_ENTRIES = 100_000


class _Pair(NamedTuple):
    """A gold answer, a given one, and the relative error allowed in a number."""

    gold: str
    given: str
    tolerance: float = 0.0


class Checker:
    """Compares answers. A thread-safe context manager; workers start with the first hard pair and end with the block."""

    def __init__(self, config: GradeConfig) -> None:
        self._config = config
        self._workers: list[Worker] = []
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

    def grade(self, text: str, gold: str) -> Verdict:
        """Grade one completion by its `\\boxed{}` answer."""
        return self.grade_many([(text, gold)])[0]

    def grade_many(self, pairs: Sequence[tuple[str, str]], tolerances: Sequence[float] | None = None) -> list[Verdict]:
        """Grade (completion text, gold answer) pairs; the verdicts are in the same order.

        A completion without a boxed answer is wrong ("no answer"). `tolerances` are the relative errors allowed in numbers (default: all
        0). Raises `MathQuarryError` when no worker can be started.
        """
        return self.grade_answers([(extract_answer(text), gold) for text, gold in pairs], tolerances)

    def grade_answers(self, pairs: Sequence[tuple[str | None, str]], tolerances: Sequence[float] | None = None) -> list[Verdict]:
        """`grade_many` for answers that are already extracted; `None` means no answer."""
        limits = tolerances or [0.0] * len(pairs)
        found = [_Pair(gold, answer, tolerance) for (answer, gold), tolerance in zip(pairs, limits, strict=True) if answer is not None]
        verdicts = iter(self._compare(found))
        return [Verdict(False, "no answer") if answer is None else next(verdicts) for answer, _ in pairs]

    def same(self, a: str, b: str) -> bool:
        """Whether two answers (not whole completions) are equivalent, for majority voting. Symmetric."""
        first, second = sorted((a, b))
        return self._compare([_Pair(first, second)])[0].correct

    def _compare(self, pairs: Sequence[_Pair]) -> list[Verdict]:
        """Verdicts on answers. If a gold answer fills several blanks, each must be right, and the first wrong one gives the reason."""
        blanks = [_blanks(pair) for pair in pairs]
        verdicts = iter(self._compare_blanks([blank for parts in blanks for blank in parts]))
        results = []
        for parts in blanks:
            found = [next(verdicts) for _ in parts]
            results.append(next((verdict for verdict in found if not verdict.correct), found[-1]))
        return results

    def _compare_blanks(self, pairs: Sequence[_Pair]) -> list[Verdict]:
        """Use known verdicts, decide easy pairs, and ask the workers about the rest."""
        with self._lock:
            if len(self._verdicts) > CACHE_ENTRIES:
                self._verdicts.clear()
            verdicts: dict[_Pair, Verdict] = {}
            hard: dict[_Pair, tuple[str, str]] = {}
            for pair in dict.fromkeys(pairs):
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
            while len(verdicts) < len(questions):
                # Only as many as needed: each start costs seconds of imports.
                missing = min(self._config.workers, len(waiting)) - len(self._workers)
                self._workers.extend(Worker() for _ in range(missing))
                for worker in self._workers:
                    if worker.ready and worker.task is None and waiting:
                        worker.ask(*waiting.popleft(), self._config.timeout_seconds)
                for number, verdict in collect(self._workers):
                    verdicts[number] = verdict
                self._workers = [worker for worker in self._workers if worker.alive]
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
    given = pair.given.translate(FULL_WIDTH).strip()
    given = given[2:-2] if given.startswith("**") and given.endswith("**") and len(given) > 4 else given
    return [pair._replace(gold=gold, given=part) for gold, part in blanks(pair.gold, given)]


def _easy(pair: _Pair) -> Verdict | tuple[str, str]:
    """The verdict if no algebra is needed, else the (gold, given) LaTeX for a worker."""
    if max(len(pair.gold), len(pair.given)) > MAX_CHARACTERS:
        return Verdict(False, "answer too long")
    choices = read_choices(pair.gold, alone=True)
    if choices is not None:
        chosen = read_choices(pair.given, alone=False)
        if chosen is not None:
            return Verdict(True, "same choice") if chosen == choices else Verdict(False, "another choice")
    outcome = compare(pair.gold, pair.given, pair.tolerance)
    return Verdict(outcome.equal, outcome.reason) if outcome else (tidy(pair.gold), tidy(pair.given))
