"""Time of small commands: help, a listing of the ledger, and a run of a recipe whose artifacts are all in the store.

    python -m tests.benchmarks.commands [--write] [STORE]

STORE has the small recipe of tests/e2e, or gets it first, which takes minutes. Each command runs in a process of its own, several times
after one that does not count. Processor time is that of the process and its children; a busy machine adds to the wall time more than to it.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date

from tests.benchmarks.__main__ import machine
from tests.benchmarks.results import write_section
from tests.e2e.command_line import SMALL

REPEATS = 7
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Compiled modules are kept, as everywhere except in some containers."""


def once(arguments: list[str]) -> tuple[float, float]:
    """Processor and wall seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "mathquarry.flows", *arguments], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def measured(store: str) -> list[str]:
    """Lines of the table."""
    recipe = ["run", "tiny", "--store", store, *(part for field in SMALL for part in ("--set", field))]
    once(recipe)
    commands = {
        "`mathquarry --help`": (["--help"], 0.5),
        "`mathquarry ledger ls`": (["ledger", "ls", "--store", store], 1.0),
        "`mathquarry run tiny`, all in the store": (recipe, 3.0),
    }
    lines = ["| command | processor time, s | wall time, s | target, s |", "|---|---:|---:|---:|"]
    for name, (arguments, target) in commands.items():
        once(arguments)
        times = [once(arguments) for _ in range(REPEATS)]
        processor, wall = (statistics.median(column) for column in zip(*times, strict=True))
        lines.append(f"| {name} | {processor:.2f} | {wall:.2f} | {target:.1f} |")
    return lines


def main() -> None:
    """Measure, and print the table or write the section."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    with tempfile.TemporaryDirectory() as folder:
        table = measured(arguments[0] if arguments else folder)
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    command = "python -m tests.benchmarks.commands"
    lines = [f"`{command}`, {date.today():%-d %B %Y}, {machine()}; median of {REPEATS} runs, {load}.", "", *table]
    if "--write" in sys.argv:
        write_section("commands", lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
