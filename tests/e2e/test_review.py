"""A run suspended for a person's review asks again after anything but an answer."""

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

ASKING = """
from pathlib import Path
from prefect import flow
from mathquarry.data.mine.domains.review import ReviewNeeded
from mathquarry.flows.stages.review import ask

@flow
def asking(answer: str) -> None:
    Path(answer).write_text(ask(ReviewNeeded(1, [])).model_dump_json())
"""


def test_a_suspended_run_that_is_retried_or_resumed_without_an_answer_asks_again(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "asking_flow.py").write_text(ASKING)
    environment = {**os.environ, **command_line.environment, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    api = httpx.Client(base_url=command_line.environment["PREFECT_API_URL"], timeout=30)
    flow = api.post("/flows/", json={"name": "asking"}).json()["id"]
    deployment = {"name": "asking", "flow_id": flow, "entrypoint": "asking_flow.asking", "parameters": {"answer": str(tmp_path / "answer")}}
    created = api.post("/deployments/", json=deployment).json()["id"]
    run = api.post(f"/deployments/{created}/create_flow_run", json={"state": {"type": "PENDING"}}).json()["id"]

    def state(name: str | None = None) -> str:
        if name:
            changed = {"state": {"type": name}, "force": True}
            api.post(f"/flow_runs/{run}/set_state", json=changed).raise_for_status()
        return str(api.get(f"/flow_runs/{run}").json()["state"]["name"])

    def execute() -> str:
        command = [sys.executable, "-m", "prefect.engine"]
        done = subprocess.run(command, env={**environment, "PREFECT__FLOW_RUN_ID": run}, capture_output=True, text=True)
        assert not (tmp_path / "answer").exists() or state() == "Completed", done.stderr
        return state()

    def resume(answer: dict[str, object] | None) -> str:
        return str(api.post(f"/flow_runs/{run}/resume", json={"run_input": answer}).json()["status"])

    assert execute() == "Suspended"
    for lost in ("CRASHED", "CANCELLED", "FAILED"):
        state(lost)
        state("SCHEDULED")
        assert execute() == "Suspended", lost
    # Nobody decides by saying nothing.
    assert [resume(answer) for answer in (None, {}, {"annotator": "ab"})] == ["REJECT"] * 3
    assert state() == "Suspended"
    assert resume({"decide": "review by hand", "accept": ["no host"]}) == "ACCEPT"
    assert execute() == "Suspended", "an answer that makes no sense is asked again"
    assert resume({"decide": "review by hand", "accept": ["sums.example/forum"], "others": "reject"}) == "ACCEPT"
    assert execute() == "Completed"
    decided = json.loads((tmp_path / "answer").read_text())
    assert decided["rest"] == "reject"
    assert [(verdict["host"], verdict["verdict"]) for verdict in decided["path"]] == [("sums.example", "accept")]
