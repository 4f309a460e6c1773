"""How long the phases of a step took, and how much memory they had."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Seconds:
    """How long each phase of a step took."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Time the block."""
        start = time.perf_counter()
        yield
        self.spent[phase] = time.perf_counter() - start

    def sampled_beside(self, seconds: float) -> None:
        """This step's completions took `seconds` beside the step before; what this step spent on them is part of its `wait`."""
        self.spent["wait"] += self.spent["sample"]
        self.spent["sample"] = seconds

    def metrics(self, tokens: int) -> dict[str, float]:
        """Seconds of each phase, and completion tokens a second in each and in the whole step.

        Where there is a phase `wait`, sampling ran beside the other phases, and only the wait for it is part of the step.
        """
        speeds = {f"{phase}_tokens_per_second": round(tokens / max(self.spent[phase], 1e-9), 1) for phase in ("sample", "score", "update")}
        beside = {"evaluate", "sample"} if "wait" in self.spent else {"evaluate"}
        total = sum(seconds for phase, seconds in self.spent.items() if phase not in beside)
        return {
            **{f"seconds_{phase}": round(seconds, 4) for phase, seconds in self.spent.items()},
            **speeds,
            "tokens_per_second": round(tokens / max(total, 1e-9), 1),
        }


def peak_gib() -> float:
    """Most memory held so far: on the GPU if there is one, else by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
