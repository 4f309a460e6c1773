"""The first process of a stage's container tells Prefect's server how the engine ended, and ends it when the run is cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

SUPERVISE = """
import asyncio, json, sys
from uuid import UUID
from flows.supervise import supervise
command, *runs = sys.argv[1:]
print(json.dumps([asyncio.run(supervise(UUID(run_id), command)) for run_id in runs]))
"""
ENGINE = """
import os, signal, time
import httpx

run = os.environ["PREFECT_API_URL"] + "/flow_runs/" + os.environ["PREFECT__FLOW_RUN_ID"]

def report(state):
    httpx.post(run + "/set_state", json={"state": {"type": state}, "force": True}).raise_for_status()

does = httpx.get(run).json()["name"]
report("RUNNING")
if does == "ends":
    report("COMPLETED")
elif does == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif does == "gives up":
    raise SystemExit(3)
elif does == "is cancelled":
    report("CANCELLING")
    time.sleep(3600)
"""
ENDS = {"ends": ("COMPLETED", ""), "is killed": ("CRASHED", "-9"), "gives up": ("CRASHED", "3"), "is cancelled": ("CANCELLED", "")}
"""What an engine does: the run's last state, and what its message names."""


def test_the_server_learns_how_every_engine_ended(command_line: CommandLine, tmp_path: Path) -> None:
    api = httpx.Client(base_url=command_line.environment["PREFECT_API_URL"])
    flow = api.post("/flows/", json={"name": "supervised"}).json()["id"]
    runs = [api.post("/flow_runs/", json={"flow_id": flow, "name": name, "state": {"type": "PENDING"}}).json()["id"] for name in ENDS]
    engine = tmp_path / "engine.py"
    engine.write_text(ENGINE)
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISE, f"{sys.executable} {engine}", *runs],
        env={**os.environ, **command_line.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0] * len(runs)
    for run_id, (ended, named) in zip(runs, ENDS.values(), strict=True):
        state = api.get(f"/flow_runs/{run_id}").json()["state"]
        assert state["type"] == ended, state
        assert named in (state["message"] or "")
