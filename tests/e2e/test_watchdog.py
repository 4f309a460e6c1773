"""The watchdog at a real server, with runs in every state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from mathquarry.data.errors import NotMade
from mathquarry.data.store.locks import exclusive
from mathquarry.flows.stages.problems import problems_flow
from mathquarry.flows.stages.stage import _TASKS
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

LOOKS = """
import json, logging, sys
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from mathquarry.flows.served.deploy import DeploySettings
from mathquarry.flows.served.watchdog import Silence, Watchdog
logging.basicConfig()
watchdog = Watchdog(DeploySettings(stage_image="none"))
# Twice alike is silent already.
watchdog.silence = Silence(dict.fromkeys(watchdog.endings, 0.0))
with get_client(sync_client=True) as client:
    for line in sys.stdin:
        watchdog.look(client)
        print(flush=True)
"""


class Planted:
    """Runs of a deployment in our pool, as the API makes them."""

    def __init__(self, url: str) -> None:
        self.api = httpx.Client(base_url=url, timeout=30)
        self.api.post("/work_pools/", json={"name": "cpu", "type": "process", "base_job_template": {}})
        self.flow = self.post("/flows/", {"name": "problems"})["id"]
        deployment = {"name": "problems", "flow_id": self.flow, "work_pool_name": "cpu"}
        self.deployment = self.post("/deployments/", deployment)["id"]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.api.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())

    def run(self, state: str | dict[str, Any], **fields: Any) -> str:
        created = self.post(f"/deployments/{self.deployment}/create_flow_run", {"enforce_parameter_schema": False, **fields})["id"]
        self.becomes(created, state)
        return str(created)

    def becomes(self, run_id: str, state: str | dict[str, Any]) -> None:
        proposed = {"type": state} if isinstance(state, str) else state
        self.post(f"/flow_runs/{run_id}/set_state", {"state": proposed, "force": True})

    def state(self, run_id: str) -> tuple[str, str]:
        found = self.api.get(f"/flow_runs/{run_id}").json()["state"]
        return found["type"], found["message"] or ""


@pytest.fixture
def planted(command_line: CommandLine) -> Planted:
    return Planted(command_line.environment["PREFECT_API_URL"])


class Looking:
    """The watchdog in its own process, which checks when it is told to."""

    def __init__(self, command_line: CommandLine) -> None:
        repository = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOKS],
            env={**os.environ, **command_line.environment, "PYTHONPATH": repository},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def look(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "\n", "the watchdog has ended"


@pytest.fixture
def watchdog(command_line: CommandLine):  # type: ignore[no-untyped-def]
    looking = Looking(command_line)
    yield looking
    looking.process.communicate()


def parameters(store: Path, seed: int) -> dict[str, Any]:
    return {"store": str(store), "config": {"seed": seed}}


def key_of(given: dict[str, Any]) -> str:
    with pytest.raises(NotMade) as missing:
        _TASKS["problems"].fn(**{**problems_flow.validate_parameters(given), "mode": "require"})
    return missing.value.key


def test_silent_runs_are_ended_and_those_without_a_process_are_not(planted: Planted, watchdog: Looking) -> None:
    lost = {state: planted.run(state) for state in ("RUNNING", "PENDING")}
    lost["CANCELLING"] = planted.run("RUNNING")
    # What has no process, the server cancels at once.
    planted.api.patch(f"/flow_runs/{lost['CANCELLING']}", json={"infrastructure_pid": "7"}).raise_for_status()
    planted.becomes(lost["CANCELLING"], "CANCELLING")
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
    pausing = {"type": "PAUSED", "name": "Suspended"}
    quiet = {planted.run(state): expected for state, expected in ((later, "SCHEDULED"), (pausing, "PAUSED"), ("COMPLETED", "COMPLETED"))}
    watchdog.look()
    assert {state: planted.state(run_id)[0] for state, run_id in lost.items()} == {state: state for state in lost}
    watchdog.look()
    assert planted.state(lost["RUNNING"])[0] == "CRASHED"
    assert "No heartbeat" in planted.state(lost["RUNNING"])[1]
    assert planted.state(lost["PENDING"])[0] == "CRASHED"
    assert "Not started" in planted.state(lost["PENDING"])[1]
    assert planted.state(lost["CANCELLING"])[0] == "CANCELLED"
    assert {run_id: planted.state(run_id)[0] for run_id in quiet} == quiet


def test_a_run_that_makes_its_artifact_is_alive_until_it_lets_go(planted: Planted, watchdog: Looking, tmp_path: Path) -> None:
    given = parameters(tmp_path, seed=3)
    run_id = planted.run("RUNNING", parameters=given)
    nonsense = planted.run("RUNNING", parameters={"store": 5, "config": {"seed": "none"}, "more": None})
    with exclusive(tmp_path / "work" / key_of(given)):
        for _ in range(4):
            watchdog.look()
        assert planted.state(run_id)[0] == "RUNNING"
        # What it makes nobody can tell.
        assert planted.state(nonsense)[0] == "CRASHED"
    for _ in range(3):
        watchdog.look()
    assert planted.state(run_id)[0] == "CRASHED"


@pytest.mark.parametrize("waiting", ["SCHEDULED", "PAUSED"])
def test_what_waits_for_a_pipeline_ends_when_that_was_cancelled_or_deleted(planted: Planted, watchdog: Looking, waiting: str) -> None:
    state = {"type": waiting, "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
    pipelines = {name: planted.run("COMPLETED") for name in ("kept", "failed", "cancelled", "deleted")}
    children = {name: planted.run(state, idempotency_key=f"{pipeline}/mine") for name, pipeline in pipelines.items()}
    other = planted.run(state, idempotency_key="scheduled problems 2099-01-01")
    planted.becomes(pipelines["failed"], "FAILED")
    watchdog.look()
    assert {planted.state(run_id)[0] for run_id in [other, *children.values()]} == {waiting}
    planted.becomes(pipelines["cancelled"], "CANCELLED")
    planted.api.delete(f"/flow_runs/{pipelines['deleted']}").raise_for_status()
    watchdog.look()
    assert {planted.state(run_id)[0] for run_id in (other, children["kept"], children["failed"])} == {waiting}
    assert planted.state(children["cancelled"]) == ("CANCELLED", "The run that started it was cancelled.")
    assert planted.state(children["deleted"]) == ("CANCELLED", "The run that started it was deleted.")
