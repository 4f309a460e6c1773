"""Eight writers of one store, killed at random moments: published artifacts stay complete, and the next run corrects the ledger."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import BeingMade
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.rows import utc
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.verification import verify
from mathquarry.data.store.workspace import Workspace

WRITERS, KEYS = 8, 12


def write(workspace: Workspace) -> dict[str, Any]:
    for name in ("first", "second"):
        (workspace.out / name).write_text(str(os.getpid()) * 100)
    workspace.metrics.rewind(0)  # what an attempt that was killed left
    workspace.metrics.log(1, loss=1.0)
    return {"writer": os.getpid()}


def make_for_ever(root: Path, seed: int, told: Path) -> None:
    """Make, remake and record artifacts; `told` gets a line for each published one."""
    store, chance = Store(root), random.Random(seed)
    ledger = Ledger(store)
    with told.open("a") as file:
        while True:
            identity = Identity("mine", 1, {"number": chance.randrange(KEYS)}, {})
            try:
                artifact = store.build(identity, write, mode=chance.choice(["reuse", "rebuild"]))
            except BeingMade:
                continue
            file.write(f"{artifact.key}\n")
            file.flush()
            if chance.random() < 0.3:
                ledger.record(artifact)


def start(root: Path, seed: int, told: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            make_for_ever(root, seed, told)
        except BaseException as error:
            told.with_suffix(".failed").write_text(repr(error))
        finally:
            os._exit(1)
    return child


def kill_writers(root: Path, kills: int) -> None:
    """Kill one of the writers at a time, and start another instead."""
    chance = random.Random(1)
    told = root.parent / "told"
    writers = [start(root, number, told) for number in range(WRITERS)]
    for number in range(kills):
        time.sleep(chance.uniform(0.01, 0.12))
        one = chance.randrange(WRITERS)
        os.kill(writers[one], signal.SIGKILL)
        _, status = os.waitpid(writers[one], 0)
        assert os.WIFSIGNALED(status), told.with_suffix(".failed").read_text()
        writers[one] = start(root, WRITERS + number, told)
    for writer in writers:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    store = Store(root)
    published = {line for line in told.read_text().splitlines() if len(line) == 20}
    assert published
    assert published <= {key for _, key in store.published()}
    for number in range(KEYS):
        store.build(Identity("mine", 1, {"number": number}, {}), write)
    assert verify(store) == (KEYS, [])
    ledger = Ledger(store)
    ledger.catch_up()
    rows = {row["key"]: row["created"] for row in ledger.query("select key, created from artifacts")}
    assert rows == {manifest["key"]: utc(manifest["created"]) for _, manifest in store.manifests()}
    metrics = ledger.query("select key, count(*) as points from metrics group by key")
    assert {row["key"]: row["points"] for row in metrics} == dict.fromkeys(rows, 1)


def test_ten_kills_of_eight_writers_lose_nothing(tmp_path: Path) -> None:
    kill_writers(tmp_path / "store", 10)


@pytest.mark.slow
def test_two_hundred_kills_of_eight_writers_lose_nothing(tmp_path: Path) -> None:
    kill_writers(tmp_path / "store", 200)
