"""The Docker engine restarts under a running stage. Only if the engine is the test's own: with $MATHQUARRY_TEST_RESTART_ENGINE."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.stack import MINI, Stack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.serve,
    pytest.mark.skipif(
        "MATHQUARRY_TEST_RESTART_ENGINE" not in os.environ, reason="restarts the engine; set MATHQUARRY_TEST_RESTART_ENGINE"
    ),
]


def restart_engine(stack: Stack) -> None:
    """Stop the engine with SIGTERM, as an upgrade does, and start it."""
    pid = int(Path("/var/run/docker.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    stack.wait(lambda: not Path(f"/proc/{pid}/exe").exists(), "the engine's end", 60)
    with Path("/tmp/dockerd.log").open("a") as log:
        subprocess.Popen(["dockerd"], stdout=log, stderr=log, start_new_session=True)
    stack.wait(lambda: subprocess.run(["docker", "info"], capture_output=True).returncode == 0, "the engine's return", 60)


@pytest.fixture
def lasting_stack(tmp_path: Path) -> Iterator[Stack]:
    """Services whose store is on disk, as usual: one in memory ends with the engine."""
    services = Stack(tmp_path, small_store=False)
    try:
        services.up()
        yield services
    finally:
        services.down()


def test_services_come_back_and_the_run_is_noticed_and_resumed(lasting_stack: Stack) -> None:
    stack = lasting_stack
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "overrides": MINI}})
    stack.in_state(run_id, "sft", "Running")
    restart_engine(stack)
    started = time.monotonic()
    # Nobody is left to report the pipeline's end: three missed heartbeats do.
    crashed = stack.finished(run_id, "CRASHED")
    assert "heartbeat" in crashed["state"]["message"]
    print(f"noticed after {time.monotonic() - started:.1f} s")
    stack.retry(run_id)
    # Its stage is still thought to run, and is noticed and resumed in its turn; the pipeline goes on after it.
    stack.in_state(run_id, "evaluate-base", "Running")
    assert stack.children(run_id)["sft"]["run_count"] == 2
    stack.verify()
