"""Values that a database cannot hold, in one artifact, run or metric: they are reported, and everything else is in the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.workspace import Workspace

SURROGATE = "\ud800"
Change = Callable[[dict[str, Any]], None]


def field(name: str, value: Any) -> Change:
    return lambda record: record.__setitem__(name, value)


MANIFESTS: dict[str, Change] = {
    "seconds beyond a float": field("seconds", 10**400),
    "a version of more than 64 bits": field("version", 10**30),
    "a time before the first year in UTC": field("created", "0001-01-01T00:00:00+14:00"),
    "a time after the last year in UTC": field("created", "9999-12-31T23:59:59-14:00"),
    "sizes that add up to more than 64 bits": field("files", [{"path": f"{n}", "sha256": "x", "bytes": 2**63 - 1} for n in range(3)]),
    "a role that is not Unicode": field("inputs", {SURROGATE: "c" * 20}),
    "a source that is not Unicode": field("sources", [{"path": f"{SURROGATE}.gz", "sha256": "x", "bytes": 3}]),
    "a digest that is not Unicode": field("sources", [{"path": "a.gz", "sha256": SURROGATE, "bytes": 3}]),
    "a config that is not Unicode": field("config", {"path": SURROGATE}),
    "a summary that is not Unicode": field("summary", {SURROGATE: 1}),
    "a revision that is not Unicode": field("code", {"version": "1", "revision": SURROGATE}),
}
RUNS: dict[str, Change] = {
    "a recipe that is not Unicode": field("recipe", SURROGATE),
    "a start before the first year in UTC": field("started", "0001-01-01T00:00:00+14:00"),
    "a config that is not Unicode": field("config", {"seed": SURROGATE}),
    "a stage that is not Unicode": field("stages", [{"name": SURROGATE, "stage": "sft", "key": "k", "reused": False}]),
}
METRICS = {
    "a step of more than 64 bits": {"step": 10**30, "time": 5.0, "values": {"loss": 1.0}},
    "a value beyond a float": {"step": 1, "time": 5.0, "values": {"loss": 10**400}},
    "a time of more than 64 bits": {"step": 1, "time": 1e300, "values": {"loss": 1.0}},
    "a name that is not Unicode": {"step": 1, "time": 5.0, "values": {SURROGATE: 1.0}},
}


def work(workspace: Workspace) -> dict[str, Any]:
    workspace.metrics.log(1, loss=3.0)
    return {"pages": 7}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Ledger, Artifact, Artifact]:
    """An artifact to change, and a sound one."""
    store = Store(tmp_path)
    changed, sound = (store.build(Identity("mine", 1, {"seed": seed}, {}), work) for seed in (1, 2))
    return Ledger(store), changed, sound


def keys(ledger: Ledger, table: str) -> set[str]:
    return {row["key"] for row in ledger.query(f"select key from {table}")}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_with_such_a_value_is_reported_and_the_others_have_rows(change: Change, pair: tuple[Ledger, Artifact, Artifact]) -> None:
    ledger, changed, sound = pair
    path = changed.path / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    (damaged,) = ledger.sync().damaged
    assert damaged.key == changed.key
    assert damaged.problem.startswith(f"{path} is damaged")
    assert keys(ledger, "artifacts") == keys(ledger, "metrics") == {sound.key}


@pytest.mark.parametrize("record", METRICS.values(), ids=METRICS)
def test_a_metric_with_such_a_value_is_reported_and_its_artifact_has_a_row(
    record: dict[str, Any], pair: tuple[Ledger, Artifact, Artifact]
) -> None:
    ledger, changed, sound = pair
    path = changed.path / "metrics.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (damaged,) = ledger.sync().damaged
    assert damaged.problem.startswith(f"{path} is damaged")
    assert keys(ledger, "artifacts") == {changed.key, sound.key}
    assert keys(ledger, "metrics") == {sound.key}


@pytest.mark.parametrize("step", [-(2**63), -1000, 2**63 - 1])
def test_an_integer_of_64_bits_is_stored(step: int, pair: tuple[Ledger, Artifact, Artifact]) -> None:
    ledger, changed, _ = pair
    (changed.path / "metrics.jsonl").write_text(json.dumps({"step": step, "time": 5.0, "values": {"loss": 1.0}}) + "\n")
    assert ledger.sync().damaged == []
    assert ledger.query("select step from metrics where key = ?", [changed.key]) == [{"step": step}]


@pytest.mark.parametrize("change", RUNS.values(), ids=RUNS)
def test_a_run_with_such_a_value_is_reported_and_the_others_have_rows(change: Change, pair: tuple[Ledger, Artifact, Artifact]) -> None:
    ledger, _, _ = pair
    for name in ("r1", "r2"):
        run = {
            "id": name,
            "recipe": "tiny",
            "started": "2024-02-05T00:00:00Z",
            "ended": None,
            "status": "running",
            "config": {},
            "stages": [],
        }
        if name == "r1":
            change(run)
        ledger.store.run_path(name).parent.mkdir(exist_ok=True)
        ledger.store.run_path(name).write_text(json.dumps(run))
    (damaged,) = ledger.sync().damaged
    assert (damaged.stage, damaged.key) == ("run", "r1")
    assert [row["id"] for row in ledger.query("select id from runs")] == ["r2"]
