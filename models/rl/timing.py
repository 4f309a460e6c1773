"""Measures the time of each phase of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Seconds:
    """Seconds of each phase of a step."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Time the block."""
        start = time.perf_counter()
        yield
        self.spent[phase] = time.perf_counter() - start

    def sampled_beside(self, seconds: float) -> None:
        """Note that this step's completions were sampled in `seconds` during the step before. This step only waited for them."""
        self.spent["wait"] += self.spent["sample"]
        self.spent["sample"] = seconds

    def metrics(self, tokens: int) -> dict[str, float]:
        """Return the seconds of each phase, and the completion tokens per second of each phase and of the whole step.

        If there is a phase `wait`, sampling ran at the same time as the other phases, and only the wait for it counts for the step.
        """
        speeds = {f"{phase}_tokens_per_second": round(tokens / max(self.spent[phase], 1e-9), 1) for phase in ("sample", "score", "update")}
        beside = {"evaluate", "sample"} if "wait" in self.spent else {"evaluate"}
        total = sum(seconds for phase, seconds in self.spent.items() if phase not in beside)
        return {
            **{f"seconds_{phase}": round(seconds, 4) for phase, seconds in self.spent.items()},
            **speeds,
            "tokens_per_second": round(tokens / max(total, 1e-9), 1),
        }
