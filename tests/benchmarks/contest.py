"""Run contestants one after another on one core, in alternating order, several times, and take medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SAMPLED_EVERY = 0.2
"""Seconds between two readings of a contestant's memory."""
CONTESTANTS = Path(__file__).parent / "contestants"


@dataclass(frozen=True)
class Contestant:
    """One side of a comparison: its label, the interpreter, the script in `contestants/` and its arguments."""

    label: str
    python: Path
    script: str
    arguments: tuple[str, ...]
    code: Path | None = None
    """The checkout whose MathQuarry this side runs; None for another system."""


@dataclass(frozen=True)
class Outcome:
    """Medians over the repeats."""

    label: str
    items: int
    per_second: float
    """Items per second of wall time, all processes on one core."""
    per_cpu_second: float
    peak_mib: float
    runs: list[dict]


def run(contestant: Contestant, core: int | None = None) -> dict:
    """Run a contestant once in its own process; return its metrics (see `contestants/clock.py`)."""

    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    if contestant.code is not None:
        environment["PYTHONPATH"] = str(contestant.code)
    command = [str(contestant.python), str(CONTESTANTS / contestant.script), *contestant.arguments]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment | threads, stdout=output, stderr=errors, preexec_fn=pin)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_mib(process.pid))
            time.sleep(_SAMPLED_EVERY)
        output.seek(0), errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{contestant.label} failed:\n{errors.read()[-3000:]}")
        return json.loads(output.read().strip().splitlines()[-1]) | {"peak_mib": peak}


def resident_mib(pid: int) -> float:
    """Current memory of a process and all its descendants, with shared pages counted once (Linux)."""
    total = 0
    waiting = [pid]
    while waiting:
        place = Path("/proc") / str(waiting.pop())
        try:
            sizes = (place / "smaps_rollup").read_text()
            waiting += [int(child) for task in (place / "task").iterdir() for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
        total += next(int(line.split()[1]) for line in sizes.splitlines() if line.startswith("Pss:"))
    return total / 1024


def contest(contestants: Sequence[Contestant], repeats: int) -> list[Outcome]:
    """Outcomes in the order of the contestants. Every other repeat runs them in reverse order, so that drift favours no side."""
    core = max(os.sched_getaffinity(0))
    runs: dict[str, list[dict]] = {contestant.label: [] for contestant in contestants}
    for repeat in range(repeats):
        for contestant in contestants if repeat % 2 == 0 else list(contestants)[::-1]:
            runs[contestant.label].append(run(contestant, core))
    return [_outcome(contestant.label, runs[contestant.label]) for contestant in contestants]


def _outcome(label: str, runs: list[dict]) -> Outcome:
    return Outcome(
        label,
        runs[0]["items"],
        statistics.median(run["items"] / run["seconds"] for run in runs),
        statistics.median(run["items"] / run["cpu_seconds"] for run in runs),
        statistics.median(run["peak_mib"] for run in runs),
        runs,
    )


def speed_table(outcomes: Sequence[Outcome], what: str) -> list[str]:
    """A Markdown table of rates and peak memory; ratios are against the first row."""
    lines = [
        f"| | {what}/s | {what}/CPU-s | first row is faster by | peak memory, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    first = outcomes[0].per_cpu_second
    for place, outcome in enumerate(outcomes):
        faster = first / outcome.per_cpu_second
        ratio = "" if place == 0 else f"{faster:.1f}" if faster > 2 else f"{faster:.2f}"
        rates = f"{_rate(outcome.per_second)} | {_rate(outcome.per_cpu_second)}"
        lines.append(f"| {outcome.label} | {rates} | {ratio} | {outcome.peak_mib:,.0f} |")
    return lines


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
