"""The store: identity, reuse, atomic publishing, resuming, mirrors."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.sources import Source, identify
from mathquarry.data.store.store import Identity, Store, verify_files
from mathquarry.data.store.workspace import MetricLog, Workspace


def identity(config: dict[str, Any] | None = None, stage: str = "mine", version: int = 1, **inputs: str) -> Identity:
    return Identity(stage, version, config or {"a": 1}, inputs)


def write_page(workspace: Workspace) -> dict[str, Any]:
    (workspace.out / "page.txt").write_text("2 + 2 = 4")
    workspace.metrics.log(1, pages=1)
    return {"pages": 1}


def test_the_key_changes_with_stage_version_config_inputs_and_source_content() -> None:
    base = identity()
    others = [
        identity({"a": 2}),
        identity(stage="sft"),
        identity(version=2),
        identity(corpus="0123"),
        Identity("mine", 1, {"a": 1}, {}, (Source("x.warc", "ab" * 32, 3),)),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6
    assert base.key == identity().key


def test_a_source_is_known_by_its_content_not_by_its_path(tmp_path: Path) -> None:
    for name in ("one.warc", "two.warc"):
        (tmp_path / name).write_bytes(b"same bytes")
    one, two = identify(str(tmp_path / "one.warc")), identify(str(tmp_path / "two.warc"))
    assert Identity("crawl", 1, {}, {}, tuple(one)).key == Identity("crawl", 1, {}, {}, tuple(two)).key


def test_an_artifact_that_exists_is_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.build(identity(), write_page)
    again = store.build(identity(), lambda workspace: pytest.fail("made again"))
    assert (first.reused, again.reused) == (False, True)
    assert again.manifest == first.manifest
    assert again.summary == {"pages": 1}


def test_rebuilding_replaces_the_files_and_keeps_the_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.build(identity(), write_page)

    def write_other(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "other.txt").write_text("new")
        return {}

    rebuilt = store.build(identity(), write_other, mode="rebuild")
    assert sorted(path.name for path in rebuilt.path.iterdir()) == ["manifest.json", "other.txt"]


def test_requiring_a_missing_artifact_names_it(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="mine .* is not in the store"):
        Store(tmp_path).build(identity(), write_page, mode="require")


def test_a_failed_stage_publishes_nothing_and_keeps_its_scratch(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(workspace: Workspace) -> dict[str, Any]:
        (workspace.scratch / "checkpoint").write_text("step 3")
        (workspace.out / "half").write_text("half an artifact")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.build(identity(), fail)
    assert store.find("mine", identity().key) is None

    def resume(workspace: Workspace) -> dict[str, Any]:
        assert list(workspace.out.iterdir()) == []
        return {"resumed_from": (workspace.scratch / "checkpoint").read_text()}

    assert store.build(identity(), resume).summary == {"resumed_from": "step 3"}
    assert not (tmp_path / "work" / identity().key).exists()


def test_an_attempt_that_could_write_nothing_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fail(workspace: Workspace) -> dict[str, Any]:
        # From here on files are made and stay empty, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, usual[1]))
        (workspace.out / "page.txt").write_text("2 + 2 = 4")
        return {}

    try:
        with pytest.raises(OSError, match="too large"):
            store.build(identity(), fail)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert store.build(identity(), write_page).summary == {"pages": 1}


def _stall(root: Path) -> None:
    def work(workspace: Workspace) -> dict[str, Any]:
        (workspace.scratch / "started").touch()
        time.sleep(600)
        return {}

    Store(root).build(identity(), work)


def test_a_killed_stage_frees_its_lock_and_a_running_one_keeps_it(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_stall, args=(tmp_path,))
    process.start()
    while not (tmp_path / "work" / identity().key / "scratch" / "started").exists():
        assert process.is_alive()
        time.sleep(0.02)
    with pytest.raises(MathQuarryError, match="another process is making"):
        Store(tmp_path).build(identity(), write_page)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Store(tmp_path).build(identity(), write_page).summary == {"pages": 1}


def test_a_full_disk_is_one_clear_error_and_no_artifact(tmp_path: Path) -> None:
    def fill(workspace: Workspace) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(MathQuarryError, match=r"No space left on device.*Free some space"):
        Store(tmp_path).build(identity(), fill)
    assert Store(tmp_path).find("mine", identity().key) is None


def test_a_folder_without_manifest_is_not_an_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.folder("mine", identity().key).mkdir(parents=True)
    assert store.find("mine", identity().key) is None
    assert store.build(identity(), write_page).summary == {"pages": 1}


def test_verifying_finds_missing_and_changed_files(tmp_path: Path) -> None:
    artifact = Store(tmp_path).build(identity(), write_page)
    assert verify_files(artifact.path, artifact.manifest) == []
    (artifact.path / "page.txt").write_text("2 + 2 = 5")
    (artifact.path / "metrics.jsonl").unlink()
    assert verify_files(artifact.path, artifact.manifest) == ["metrics.jsonl is missing", "page.txt has changed"]


def test_a_remote_store_serves_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATHQUARRY_CACHE", str(tmp_path / "here"))
    here = Store("memory://bucket/quarry")
    made = here.build(identity(), write_page)
    here.write_run({"id": "r1", "started": "2024-02-05T00:00:00Z"})
    monkeypatch.setenv("MATHQUARRY_CACHE", str(tmp_path / "there"))
    there = Store("memory://bucket/quarry")
    fetched = there.get("mine", made.key)
    assert fetched.reused
    assert (fetched.path / "page.txt").read_text() == "2 + 2 = 4"
    assert [manifest["key"] for _, manifest in there.manifests()] == [made.key]
    assert list(there.manifests(without={made.key})) == []
    assert [run["id"] for run in there.runs()] == ["r1"]
    assert there.run_names() == {"r1"}
    with pytest.raises(MathQuarryError, match="r2.json does not exist"):
        there.run("r2")


def test_metrics_rewind_to_a_checkpoint_and_forget_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.log(step, loss=float(step))
    with log.path.open("a") as file:
        file.write(json.dumps({"step": 4})[:7])
    log.rewind(2)
    log.log(3, loss=9.0)
    assert [(record["step"], record["values"]["loss"]) for record in log.read()] == [(1, 1.0), (2, 2.0), (3, 9.0)]
