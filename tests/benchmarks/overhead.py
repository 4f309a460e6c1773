"""Overhead of a run beyond its stages' work: in one process, and served, where stages with a model start containers.

    python -m tests.benchmarks.overhead [embedded] [served]

The recipe is the small one of tests/serve. `served` starts the services of docker/compose.yaml (tests/serve/prepare first), or uses those
that $MATHQUARRY_TEST_STACK names. A stage's overhead is the time from its child run's creation to its end, less what its artifact took:
first until the run starts (queue, container, Prefect), then inside it (importing torch and transformers, publishing in the UI).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from mathquarry.data.store.store import Store
from tests.serve.stack import MINI, Stack


def seconds(run: dict[str, Any], since: str, until: str) -> float:
    """Seconds between two of its timestamps."""
    return (datetime.fromisoformat(run[until]) - datetime.fromisoformat(run[since])).total_seconds()


def embedded() -> None:
    """One process with its own Prefect server."""
    with tempfile.TemporaryDirectory() as store:
        fields = [part for override in MINI for part in ("--set", override)]
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "mathquarry.flows", "run", "tiny", "--store", store, *fields], check=True, stdout=subprocess.DEVNULL
        )
        command = time.monotonic() - started
        run = Store(store).runs()[-1]
    work = sum(stage["seconds"] for stage in run["stages"])
    pipeline = seconds(run, "started", "ended")
    print(f"embedded: command {command:.1f} s, pipeline {pipeline:.0f} s, its {len(run['stages'])} stages {work:.1f} s")
    print(f"  pipeline minus stages: {pipeline - work:.1f} s; start and end of the command: {command - pipeline:.1f} s")


def served(stack: Stack) -> None:
    """Each stage from its deployment; a new seed, so that nothing is reused from the store."""
    seed = int.from_bytes(secrets.token_bytes(3), "big")
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "seed": seed, "overrides": MINI}})
    stack.finished(run_id)
    work = {stage["name"]: stage["seconds"] for stage in stack.record(run_id)["stages"]}
    children = stack.children(run_id)
    print("served, seconds of each stage: until its start, of its own work, of its run beside that, overhead")
    for name, child in sorted(children.items(), key=lambda entry: entry[1]["created"]):
        before, within = seconds(child, "created", "start_time"), seconds(child, "start_time", "end_time") - work[name]
        print(f"  {name:<14} {child['work_pool_name']} {before:6.1f} {work[name]:6.1f} {within:6.1f} {before + within:6.1f}")
    run = stack.run(run_id)
    print(f"  pipeline minus stages: {seconds(run, 'start_time', 'end_time') - sum(work.values()):.1f} s for {len(children)} stages")


def main() -> None:
    """Measure the parts that the arguments name; both if there are none."""
    chosen = sys.argv[1:] or ["embedded", "served"]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start")
    if "embedded" in chosen:
        embedded()
    if "served" in chosen and (kept := os.environ.get("MATHQUARRY_TEST_STACK")):
        served(Stack.kept(Path(kept)))
    elif "served" in chosen:
        with tempfile.TemporaryDirectory() as folder:
            stack = Stack(Path(folder))
            try:
                stack.up()
                served(stack)
            finally:
                stack.down()
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
