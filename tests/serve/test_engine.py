"""The Docker engine restarts under a running stage. Only where the engine is the test's own: with $MATHQUARRY_TEST_RESTART_ENGINE."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import MINI, Stack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.serve,
    pytest.mark.skipif(
        "MATHQUARRY_TEST_RESTART_ENGINE" not in os.environ, reason="restarts the engine; set MATHQUARRY_TEST_RESTART_ENGINE"
    ),
]


def restart_engine(stack: Stack) -> None:
    """SIGTERM as an upgrade sends it, then a start."""
    pid = int(Path("/var/run/docker.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    stack.wait(lambda: not Path(f"/proc/{pid}/exe").exists(), "the engine's end", 60)
    with Path("/tmp/dockerd.log").open("a") as log:
        subprocess.Popen(["dockerd"], stdout=log, stderr=log, start_new_session=True)
    stack.wait(lambda: subprocess.run(["docker", "info"], capture_output=True).returncode == 0, "the engine's return", 60)


def test_services_come_back_and_the_run_is_noticed_and_resumed(stack: Stack, served_run: ServedRun) -> None:
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "seed": 7, "overrides": MINI}})
    stack.in_state(run_id, "sft", "Running")
    restart_engine(stack)
    # Nobody is left to report the pipeline's end: three missed heartbeats do.
    crashed = stack.finished(run_id, "CRASHED")
    assert "heartbeat" in crashed["state"]["message"]
    stack.retry(run_id)
    stack.finished(run_id)
    assert set(stack.keys()) == set(served_run.keys)
    stack.verify()
