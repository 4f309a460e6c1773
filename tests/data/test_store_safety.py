"""Manifests are data, collecting keeps what is needed, and a remote store is the only place where presence counts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pytest

from data.errors import MathQuarryError
from data.store import Artifact, Identity, Store
from data.workspace import Workspace
from flows.__main__ import main


def work(space: Workspace) -> dict[str, Any]:
    (space.out / "model").write_text("weights")
    return {}


def made(store: Store, stage: str, **inputs: str) -> Artifact:
    artifact = store.build(Identity(stage, 1, {}, inputs), work)
    os.utime(artifact.path / "manifest.json", (0, 0))
    return artifact


def run(store: Store, name: str, status: str, day: int, artifact: Artifact) -> None:
    stages = [{"name": artifact.stage, "stage": artifact.stage, "key": artifact.key, "reused": False}]
    when = f"2024-02-{day:02}T00:00:00Z"
    ended = None if status == "running" else when
    store.write_run({"id": name, "recipe": "r", "started": when, "ended": ended, "status": status, "config": {}, "stages": stages})


def collect(store: Store, *arguments: str) -> int:
    return main(["ledger", "gc", "--yes", "--store", str(store.root), *arguments])


@pytest.mark.parametrize(
    "damage",
    [
        *(
            {"files": [{"path": path, "bytes": 1, "sha256": "0"}]}
            for path in ("../x", "/etc/passwd", "a/../../x", "", ".", "a\\b", "a\0", 3)
        ),
        {"files": [{"path": "manifest.json", "bytes": 1, "sha256": "0"}]},
        {"files": {"path": "x"}},
        {"files": [{"path": "x"}]},
        {"key": "../../../victim"},
        {"key": "0" * 20},
        {"stage": "../mine"},
        {"inputs": {"corpus": "../../x"}},
        {"inputs": {"corpus": 5}},
        {"inputs": []},
        {"schema": 99},
    ],
)
def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    store = Store(tmp_path / "store")
    artifact = made(store, "mine")
    victim = tmp_path / "victim"
    victim.mkdir()
    path = artifact.path / "manifest.json"
    path.write_text(json.dumps(artifact.manifest | damage))
    for read in (lambda: store.find("mine", artifact.key), lambda: list(store.manifests())):
        with pytest.raises(MathQuarryError, match=str(path)):
            read()
    assert collect(store) != 0
    assert victim.exists()
    assert path.exists()


@pytest.mark.parametrize("key", ["../x", "", ".", "a/b", "/etc"])
def test_what_is_no_key_names_no_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(MathQuarryError, match="no stage or key"):
        Store(tmp_path).find("mine", key)


def test_collecting_keeps_inputs_of_any_depth_young_artifacts_and_running_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = made(store, "crawl")
    second = made(store, "mine", crawl=first.key)
    third = made(store, "sft", corpus=second.key)
    young, running, unwanted = store.build(Identity("young", 1, {}, {}), work), made(store, "grpo"), made(store, "reward")
    old = made(store, "evaluate")
    run(store, "old", "completed", 1, old)
    run(store, "busy", "running", 2, running)
    run(store, "done", "completed", 3, third)
    run(store, "cut", "failed", 4, made(store, "rejection"))
    assert collect(store, "--keep-runs", "1") == 0
    assert all(store.find(one.stage, one.key) for one in (first, second, third, young, running))
    assert store.find(unwanted.stage, unwanted.key) is None
    assert store.find(old.stage, old.key) is None


def test_collecting_keeps_what_is_being_made_with_its_inputs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    source, again = made(store, "mine"), made(store, "sft")

    def collecting(space: Workspace) -> dict[str, Any]:
        (space.scratch / "checkpoint").write_text("hours")
        assert collect(store) == 0
        assert store.find("mine", source.key) is not None
        assert (space.scratch / "checkpoint").exists()
        return work(space)

    store.build(Identity("grpo", 1, {}, {"corpus": source.key}), collecting)
    store.build(Identity("sft", 1, {}, {"corpus": source.key}), collecting)
    made(store, "sft")
    store.build(Identity("sft", 1, {}, {}), collecting, mode="rebuild")
    assert store.find("sft", again.key) is not None


def test_collecting_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    artifact = made(store, "mine")
    command = ["ledger", "gc", "--delete", "--store", str(tmp_path)]
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(command) != 0
    assert "bytes" in capsys.readouterr().out
    assert store.find("mine", artifact.key) is not None
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(command) == 0
    assert store.find("mine", artifact.key) is None


@pytest.mark.parametrize("at", ["model", "manifest.json"])
def test_an_upload_that_failed_is_made_up_for_by_the_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    monkeypatch.setenv("MATHQUARRY_CACHE", str(tmp_path / "here"))
    url = f"memory://retry-{at}/store"
    here = Store(url)
    files = fsspec.filesystem("memory")

    def failing(usual: Callable[..., Any], where: int) -> Callable[..., Any]:
        def fail(*arguments: Any, **more: Any) -> Any:
            if arguments[where].endswith(at):
                raise ConnectionError("away")
            return usual(*arguments, **more)

        return fail

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "put_file", failing(type(files).put_file, 2))
        patch.setattr(type(files), "pipe_file", failing(type(files).pipe_file, 1))
        with pytest.raises(ConnectionError):
            here.build(Identity("mine", 1, {}, {}), work)
    assert here.find("mine", Identity("mine", 1, {}, {}).key) is None
    sent = here.build(Identity("mine", 1, {}, {}), lambda space: pytest.fail("made again"))
    monkeypatch.setenv("MATHQUARRY_CACHE", str(tmp_path / "there"))
    assert (Store(url).get("mine", sent.key).path / "model").read_text() == "weights"


def test_a_kill_while_an_artifact_is_replaced_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    old = made(store, "mine")
    seen = []

    class Killed(BaseException):
        pass

    def stop(path: Path) -> None:
        if path == old.path.parent:
            seen.append(store.get("mine", old.key).summary)
            raise Killed

    monkeypatch.setattr("data.store.sync_path", stop)
    with pytest.raises(Killed):
        store.build(Identity("mine", 1, {}, {}), lambda space: {"new": 1}, mode="rebuild")
    assert seen == [{"new": 1}]
    assert store.get("mine", old.key).summary == {"new": 1}


def test_a_ledger_that_cannot_be_written_does_not_fail_a_published_stage(tmp_path: Path) -> None:
    from tasks.stage import _record

    store = Store(tmp_path)
    artifact = made(store, "mine")
    with duckdb.connect(str(store.ledger_path)) as other:
        other.execute("create table artifacts (another integer)")
    _record(store, artifact)
    store.ledger_path.write_bytes(b"no database at all" * 1000)
    _record(store, artifact)
    store.ledger_path.unlink()
    store.ledger_path.mkdir()
    _record(store, artifact)
