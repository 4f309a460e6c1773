"""The first process of a stage's container tells Prefect's server how the engine ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx
import pytest

from flows.supervise import reason
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

SUPERVISE = """
import json, sys
from flows.supervise import supervise
print(json.dumps([supervise(run_id, [sys.executable, "-c", program]) for run_id, program in json.loads(sys.argv[1])]))
"""
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
CASES = [
    ("pass", "RUNNING", 0, "RUNNING", ""),
    (KILLED, "RUNNING", 137, "CRASHED", reason(-9)),
    ("raise SystemExit(3)", "PENDING", 3, "CRASHED", reason(3)),
    (KILLED, "COMPLETED", 137, "COMPLETED", ""),
    (KILLED, "CANCELLED", 137, "CANCELLED", ""),
]
"""What the engine does, the run's state before; the exit status, the run's state after, its message."""


def run_in_state(command_line: CommandLine, state: str) -> str:
    """Id of a new flow run in this state."""
    api = command_line.environment["PREFECT_API_URL"]
    flow = httpx.post(f"{api}/flows/", json={"name": "supervised"}).json()["id"]
    run_id = str(httpx.post(f"{api}/flow_runs/", json={"flow_id": flow, "state": {"type": "PENDING"}}).json()["id"])
    httpx.post(f"{api}/flow_runs/{run_id}/set_state", json={"state": {"type": state}, "force": True}).raise_for_status()
    return run_id


def test_a_run_whose_engine_did_not_end_well_is_crashed_unless_it_had_ended(command_line: CommandLine) -> None:
    runs = [run_in_state(command_line, before) for _, before, *_ in CASES]
    supervised = json.dumps([(run_id, program) for run_id, (program, *_) in zip(runs, CASES, strict=True)])
    environment = {**os.environ, **command_line.environment}
    done = subprocess.run([sys.executable, "-c", SUPERVISE, supervised], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [status for _, _, status, _, _ in CASES]
    states = [httpx.get(f"{command_line.environment['PREFECT_API_URL']}/flow_runs/{run_id}").json()["state"] for run_id in runs]
    assert [(state["type"], state["message"] or "") for state in states] == [(after, message) for *_, after, message in CASES]


def test_a_killed_process_is_told_apart_from_one_that_gave_up() -> None:
    assert "SIGKILL (exit status 137)" in reason(-9)
    assert "memory" in reason(-9)
    assert "SIGSEGV (exit status 139)." in reason(-11)
    assert "memory" not in reason(-11)
    assert "exit status 3" in reason(3)
