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
from mathquarry.flows.served import supervise as supervision
from mathquarry.flows.stages.lost import until_lost
supervision.until_lost = lambda run_id, ended: until_lost(run_id, ended, look=1.0, grace=2.0)
supervise = supervision.supervise
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
elif does == "is crashed from outside":
    report("CRASHED")
    time.sleep(3600)
elif does == "is deleted":
    httpx.delete(run).raise_for_status()
    time.sleep(3600)
elif does == "loses its pipeline":
    httpx.delete(os.environ["PREFECT_API_URL"] + "/flow_runs/" + httpx.get(run).json()["idempotency_key"].split("/")[0])
    time.sleep(3600)
"""
ENDS = {
    "ends": ("COMPLETED", ""),
    "is killed": ("CRASHED", "-9"),
    "gives up": ("CRASHED", "3"),
    "is cancelled": ("CANCELLED", ""),
    "is crashed from outside": ("CRASHED", ""),
    "is deleted": (None, ""),
    "loses its pipeline": ("CANCELLED", "was deleted"),
}
"""An engine's behaviour: the run's last state, and the text in its message."""


def test_the_server_learns_how_every_engine_ended(command_line: CommandLine, tmp_path: Path) -> None:
    api = httpx.Client(base_url=command_line.environment["PREFECT_API_URL"])
    flow = api.post("/flows/", json={"name": "supervised"}).json()["id"]
    pipeline = api.post("/flow_runs/", json={"flow_id": flow, "state": {"type": "RUNNING"}}).json()["id"]
    runs = []
    for name in ENDS:
        run = {"flow_id": flow, "name": name, "state": {"type": "PENDING"}}
        key = {"idempotency_key": f"{pipeline}/sft"} if name == "loses its pipeline" else {}
        runs.append(api.post("/flow_runs/", json=run | key).json()["id"])
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
        if ended is None:
            assert api.get(f"/flow_runs/{run_id}").status_code == 404
            continue
        state = api.get(f"/flow_runs/{run_id}").json()["state"]
        assert state["type"] == ended, state
        assert named in (state["message"] or "")


WAITING = """
import time
from prefect import flow
import mathquarry.flows.stages.lost as lost

look = lost.until_lost
lost.until_lost = lambda run_id, ended: look(run_id, ended, look=1.0, grace=1.0)

@flow
def waiting() -> None:
    with lost.ends_with_its_run():
        time.sleep(3600)
"""
LOSES = {
    "cancelled": ("CANCELLING", "", "CANCELLED"),
    "crashed": ("CRASHED", "No heartbeat", "CRASHED"),
    "started again": ("SCHEDULED", "Retry from the UI", "SCHEDULED"),
    "deleted": (None, "", None),
}
"""A run's fate: the state that somebody sets, its message, and the state that it keeps."""


def test_a_process_that_lost_its_run_ends_and_says_nothing_more_about_it(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "waiting_flow.py").write_text(WAITING)
    environment = {**os.environ, **command_line.environment, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    api = httpx.Client(base_url=command_line.environment["PREFECT_API_URL"], timeout=30)
    flow = api.post("/flows/", json={"name": "waiting"}).json()["id"]
    deployment = {"name": "waiting", "flow_id": flow, "entrypoint": "waiting_flow.waiting"}
    created = api.post("/deployments/", json=deployment).json()["id"]
    runs, processes = {}, {}
    for name in LOSES:
        runs[name] = api.post(f"/deployments/{created}/create_flow_run", json={"state": {"type": "PENDING"}}).json()["id"]
        # What has no process, the server cancels at once.
        api.patch(f"/flow_runs/{runs[name]}", json={"infrastructure_pid": "7"}).raise_for_status()
        command = [sys.executable, "-m", "prefect.engine"]
        processes[name] = subprocess.Popen(command, env={**environment, "PREFECT__FLOW_RUN_ID": runs[name]})
    for name, (state, message, _) in LOSES.items():
        while api.get(f"/flow_runs/{runs[name]}").json()["state"]["type"] != "RUNNING":
            assert processes[name].poll() is None, name
        if state is None:
            api.delete(f"/flow_runs/{runs[name]}").raise_for_status()
        else:
            changed = {"state": {"type": state, "message": message}, "force": True}
            api.post(f"/flow_runs/{runs[name]}/set_state", json=changed).raise_for_status()
    assert {name: process.wait(timeout=120) for name, process in processes.items()} == dict.fromkeys(LOSES, 0)
    for name, (_, message, kept) in LOSES.items():
        answer = api.get(f"/flow_runs/{runs[name]}")
        if kept is None:
            assert answer.status_code == 404
            continue
        assert answer.json()["state"]["type"] == kept, name
        assert message in (answer.json()["state"]["message"] or ""), name
