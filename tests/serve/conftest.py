"""One stack of services for the tests that need a Docker engine, and a small recipe run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from data.store import Store
from tests.serve.stack import MINI, Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services. With $MATHQUARRY_TEST_STACK naming a folder they stay up, for working on one test."""
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine answers; `make test-serve` says what these tests need")
    if kept := os.environ.get("MATHQUARRY_TEST_STACK"):
        yield Stack.kept(Path(kept))
        return
    services = Stack(tmp_path_factory.mktemp("stack"))
    try:
        services.up()
        yield services
    finally:
        services.down()


@dataclass(frozen=True)
class ServedRun:
    """A finished pipeline run of the small recipe."""

    id: str
    keys: dict[str, str]
    overrides: list[str]

    @classmethod
    def of(cls, stack: Stack, run_id: str) -> ServedRun:
        """What is known of it afterwards."""
        record = stack.record(run_id)
        keys = {stage["name"]: stage["key"] for stage in record["stages"]}
        return cls(run_id, keys, [*MINI, f"seed={record['config']['seed']}"])

    def reference(self, name: str) -> str:
        stage = next(
            stage for stage in ("problems", "curate", "pretrain", "sft", "reward", "grpo", "mine", "crawl") if name.startswith(stage)
        )
        return f"{stage}/{self.keys[name]}"


@pytest.fixture(scope="session")
def lost_runs(stack: Stack) -> dict[str, str]:
    """State -> run in it of which nothing will be heard again, as when its host loses power. Noticing takes minutes, so it comes early."""
    runs = {}
    for state in ("RUNNING", "PENDING"):
        later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
        runs[state] = stack.trigger("problems", {"store": "/store", "config": {}}, state=later)
        stack.api("POST", f"/flow_runs/{runs[state]}/set_state", {"state": {"type": state}, "force": True})
    return runs


@pytest.fixture(scope="session")
def submitted() -> list[str]:
    """Ids of runs of the small recipe that tests in a browser have started by the form and seen finished."""
    return []


@pytest.fixture(scope="session")
def served_run(stack: Stack, lost_runs: dict[str, str], submitted: list[str]) -> ServedRun:
    """The small recipe, finished: as a browser started it, or else triggered here."""
    if submitted:
        return ServedRun.of(stack, submitted[0])
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "overrides": MINI}})
    stack.finished(run_id)
    return ServedRun.of(stack, run_id)


@pytest.fixture(scope="session")
def embedded_keys(served_run: ServedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> key of the same recipe run by the command line in one process."""
    store = Path(tmp_path_factory.mktemp("embedded"))
    fields = [part for override in served_run.overrides for part in ("--set", override)]
    done = subprocess.run([sys.executable, "-m", "flows", "run", "tiny", "--store", str(store), *fields], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {stage["name"]: stage["key"] for stage in Store(store).runs()[-1]["stages"]}
