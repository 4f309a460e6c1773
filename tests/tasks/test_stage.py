"""What a stage's task does around its work: a ledger that others hold must not fail it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from data.ledger import Ledger
from data.store import Store
from tasks.stage import Produced, produce

HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_locked_ledger_fails_neither_a_new_artifact_nor_one_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Ledger.__init__, "__defaults__", (0.1,))

    def make() -> Produced:
        return produce(str(tmp_path), "mine", 1, {"rounds": 1}, {}, lambda space, inputs: {"pages": 7})

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
