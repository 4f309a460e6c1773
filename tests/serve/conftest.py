"""One stack of services for the tests that need a Docker engine, and a small recipe run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mathquarry.data.files import write_json
from mathquarry.data.store.store import Store
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
        """The recorded fields of the run."""
        record = stack.record(run_id)
        keys = {stage["name"]: stage["key"] for stage in record["stages"]}
        mine = record["config"]["mine"]
        # A person's review and its rounds, where a browser started it.
        reviewed = [f"mine.{field}={mine[field]}" for field in ("review", "max_rounds", "stop_overlap") if mine.get("review")]
        return cls(run_id, keys, [*MINI, *reviewed, f"seed={record['config']['seed']}"])

    def reference(self, name: str) -> str:
        stage = next(
            stage for stage in ("problems", "curate", "pretrain", "sft", "reward", "grpo", "mine", "crawl") if name.startswith(stage)
        )
        return f"{stage}/{self.keys[name]}"


@pytest.fixture(scope="session")
def lost_runs(stack: Stack) -> dict[str, str]:
    """State -> run in it that will send nothing anymore, as if its host lost power. Detection takes minutes, so these start early."""
    runs = {}
    for state in ("RUNNING", "PENDING"):
        later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
        runs[state] = stack.trigger("problems", {"store": "/store", "config": {}}, state=later)
        stack.api("POST", f"/flow_runs/{runs[state]}/set_state", {"state": {"type": state}, "force": True})
    return runs


@pytest.fixture(scope="session")
def submitted() -> list[str]:
    """Ids of runs of the small recipe that browser tests have started by the form and seen finished."""
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
def embedded_keys(stack: Stack, served_run: ServedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> key of the same recipe run by the command line in one process, with the same decisions of a person."""
    store = Path(tmp_path_factory.mktemp("embedded"))
    review = stack.record(served_run.id)["config"]["mine"].get("review")
    for name, decision in (stack.decisions(review) if review else {}).items():
        write_json(store / "reviews" / review / name, decision)
    fields = [part for override in served_run.overrides for part in ("--set", override)]
    done = subprocess.run(
        [sys.executable, "-m", "mathquarry.flows", "run", "tiny", "--store", str(store), *fields], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {stage["name"]: stage["key"] for stage in Store(store).runs()[-1]["stages"]}
