"""A model's programs run in the sandbox beside the stages' containers, which has no network."""

from __future__ import annotations

import json

import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import Stack, docker

pytestmark = [pytest.mark.slow, pytest.mark.serve]

ASKED = """
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.sandbox import make_sandbox
with make_sandbox(ProgramsConfig()) as sandbox:
    print(sandbox.run("print(6 * 7)").text)
    print(sandbox.run("import socket; socket.create_connection(('192.0.2.1', 80), 3)").error)
"""


def test_a_stages_container_reaches_the_sandbox_and_a_program_reaches_nothing(stack: Stack) -> None:
    job = stack.api("GET", "/work_pools/gpu")["base_job_template"]["job_configuration"]
    options = [part for volume in job["volumes"] for part in ("--volume", volume)]
    options += ["--env", f"MATHQUARRY_SANDBOX={job['env']['MATHQUARRY_SANDBOX']}", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    said = docker("run", "--rm", "--network", "none", *options, "--entrypoint", "python", job["image"], "-c", ASKED).splitlines()
    assert said[0] == "42"
    assert "not permitted" in said[1]
    container = json.loads(docker("inspect", stack.container("sandbox")))[0]
    assert list(container["NetworkSettings"]["Networks"]) == ["none"]
    assert [mount["Destination"] for mount in container["Mounts"]] == ["/run/mathquarry"]


def test_a_policy_that_writes_programs_is_evaluated(stack: Stack, served_run: ServedRun) -> None:
    config = {**stack.record(served_run.id)["config"]["evaluate"], "formats": ["pot"], "questions": 4, "k": 1, "k_values": [1]}
    references = {"policy": served_run.reference("sft"), "problems": served_run.reference("problems")}
    run_id = stack.trigger("evaluate", {"store": "/store", "config": config, **references})
    assert stack.finished(run_id)["state"]["message"].startswith("made evaluate/")
