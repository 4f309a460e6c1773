"""A stage's task around its work: a ledger that another process holds must not fail it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from mathquarry.data.errors import BeingMade
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store
from mathquarry.tasks import stage
from mathquarry.tasks.stage import StageResult, produce

HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_locked_ledger_fails_neither_a_new_artifact_nor_one_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Ledger.__init__, "__defaults__", (0.1,))

    def make() -> StageResult:
        return produce(str(tmp_path), "mine", 1, {"rounds": 1}, {}, lambda workspace, inputs: {"pages": 7})

    ledger = Ledger(Store(str(tmp_path)))
    ledger.sync()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(ledger.store.ledger_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with caplog.at_level(logging.WARNING, "mathquarry"):
        made, found = make(), make()
    holder.communicate()
    assert (made.reused, found.reused) == (False, True)
    assert caplog.text.count("locked by another process") == 2
    assert make().reused
    assert [row["key"] for row in ledger.query("select key from artifacts")] == [made.key]


MAKE = """
import sys
from mathquarry.tasks.stage import produce
def work(workspace, inputs):
    print("making", flush=True)
    sys.stdin.read()
    return {"pages": 7}
produce(sys.argv[1], "mine", 1, {"rounds": 1}, {}, work)
"""


def test_a_run_of_a_deployment_waits_while_another_makes_the_same_artifact_and_one_at_a_terminal_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> StageResult:
        return produce(str(tmp_path), "mine", 1, {"rounds": 1}, {}, lambda workspace, inputs: {"pages": 8})

    other = subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"making\n"
    with pytest.raises(BeingMade, match="another process is making mine"):
        make()
    # While this one waits, the other ends.
    monkeypatch.setattr(stage.time, "sleep", lambda seconds: other.communicate())
    monkeypatch.setattr(stage, "publish_stage", lambda artifact, chart: None)
    served = FlowRunContext.model_construct(flow_run=FlowRun(flow_id=uuid4(), deployment_id=uuid4()))
    with served, temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), caplog.at_level(logging.WARNING, "mathquarry"):
        found = make()
    assert (found.reused, found.summary) == (True, {"pages": 7})
    assert f"another run is making mine/{found.key}; this one continues when that has ended" in caplog.text
