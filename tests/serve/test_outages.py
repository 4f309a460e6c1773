"""The server is away while runs are active: no run is mistaken for lost, no work is done twice, and lost runs are still noticed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import HEARTBEATS_SECONDS, MINI, Stack, docker, stage_container, suspended

pytestmark = [pytest.mark.slow, pytest.mark.serve]

LONG = pytest.mark.skipif("MATHQUARRY_TEST_LONG_OUTAGES" not in os.environ, reason="takes minutes each; set MATHQUARRY_TEST_LONG_OUTAGES")


@dataclass(frozen=True)
class Living:
    """Two pipelines: one trains in a container, the other's `mine` waits for a person."""

    training: str
    sft: dict[str, Any]
    asking: str
    mine: str

    def states(self, stack: Stack) -> list[str]:
        """Ids of the states of all four runs: a changed id means that something happened to the run."""
        return [stack.run(run_id)["state"]["id"] for run_id in (self.training, self.sft["id"], self.asking, self.mine)]


def containers(stack: Stack) -> list[str]:
    """Ids of the stages' containers that run."""
    return docker("ps", "--no-trunc", "--quiet", "--filter", "label=mathquarry=stage", "--filter", f"network={stack.name}-stages").split()


def long_training(stack: Stack, served_run: ServedRun, seed: int) -> tuple[str, dict[str, Any]]:
    """A pipeline that reuses everything up to fine-tuning, and its stage `sft` in a container, which will not end by itself."""
    overrides = [*served_run.overrides, "sft.steps=100000", "sft.checkpoint_steps=50", f"sft.seed={seed}"]
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "overrides": overrides}})
    stack.in_state(run_id, "sft", "Running")
    return run_id, stack.wait(lambda: (found := stack.children(run_id)["sft"])["infrastructure_pid"] and found, "the container's id")


@pytest.fixture
def living(stack: Stack, served_run: ServedRun, request: pytest.FixtureRequest) -> Living:
    seed = len(stack.api("POST", "/flow_runs/filter", {}))
    training, sft = long_training(stack, served_run, seed)
    overrides = [*MINI, f"mine.seed={seed}"]
    asking = stack.trigger("pipeline", {"run": {"recipe": "tiny", "overrides": overrides, "annotate": True}})
    return Living(training, sft, asking, stack.wait(lambda: suspended(stack, asking), "the suspension")["id"])


def away(stack: Stack, seconds: float) -> None:
    docker("stop", "--time", "2", stack.container("server"))
    time.sleep(seconds)
    docker("start", stack.container("server"))


def watched(stack: Stack) -> None:
    """Wait for the server, and until every silent run would have been considered lost."""
    stack.api("GET", "/health")
    time.sleep(HEARTBEATS_SECONDS + 20)


def test_no_run_that_lives_is_crashed_and_cancel_works_afterwards(stack: Stack, living: Living) -> None:
    before = living.states(stack)
    docker("restart", "--time", "1", stack.container("server"))
    stack.api("GET", "/health")
    away(stack, 20)
    watched(stack)
    assert living.states(stack) == before
    assert containers(stack) == [stage_container(living.sft)]
    cancelled_with_all_that_it_started(stack, living)


@LONG
@pytest.mark.parametrize("seconds", [60, 120])
def test_nor_after_a_longer_time(stack: Stack, living: Living, seconds: int) -> None:
    before = living.states(stack)
    away(stack, seconds)
    watched(stack)
    assert living.states(stack) == before
    assert containers(stack) == [stage_container(living.sft)]
    cancelled_with_all_that_it_started(stack, living)


@LONG
def test_a_container_that_was_killed_while_the_server_was_away_is_noticed_and_nobody_else_is_crashed(stack: Stack, living: Living) -> None:
    server = stack.container("server")
    docker("stop", "--time", "2", server)
    docker("kill", "--signal", "KILL", stage_container(living.sft))
    time.sleep(60)
    docker("start", server)
    # Its worker has kept the exit status for the server.
    assert "137" in stack.finished(living.sft["id"], "CRASHED")["state"]["message"]
    assert "137" in stack.finished(living.training, "FAILED")["state"]["message"]
    watched(stack)
    assert containers(stack) == []
    assert stack.run(living.asking)["state"]["type"] == "RUNNING"
    assert stack.run(living.mine)["state"]["name"] == "Suspended"


def cancelled_with_all_that_it_started(stack: Stack, living: Living) -> None:
    """Cancel both pipelines with the UI's button, with no option ticked."""
    for pipeline, stage in ((living.training, living.sft["id"]), (living.asking, living.mine)):
        stack.api("POST", f"/flow_runs/{pipeline}/set_state", {"state": {"type": "CANCELLING"}})
        stack.finished(pipeline, "CANCELLED")
        stack.finished(stage, "CANCELLED")
    stack.wait(lambda: containers(stack) == [], "the end of the container", 120)


def test_deleting_ends_the_container_and_the_pipeline_says_so(stack: Stack, served_run: ServedRun) -> None:
    """The run of the stage, and the pipeline that started one."""
    pipeline, sft = long_training(stack, served_run, seed=77)
    stack.api("DELETE", f"/flow_runs/{sft['id']}")
    stack.wait(lambda: containers(stack) == [], "the end of the container", 120)
    message = stack.finished(pipeline, "FAILED")["state"]["message"]
    assert "deleted its run" in message
    assert "Traceback" not in stack.logs(pipeline)
    stack.retry(pipeline)
    stack.wait(lambda: stack.run(pipeline)["run_count"] == 2, "another attempt")
    again = stack.in_state(pipeline, "sft", "Running")
    stack.wait(lambda: containers(stack), "a container")
    stack.api("DELETE", f"/flow_runs/{pipeline}")
    assert "was deleted" in stack.finished(again["id"], "CANCELLED")["state"]["message"]
    stack.wait(lambda: containers(stack) == [], "the end of the container", 120)
