"""Manifests are only data, collection keeps all needed artifacts, and a remote store alone decides what is present."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pytest

import mathquarry.data.store.store
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.collection import Collection
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.sql import ask
from mathquarry.data.store.locks import exclusive
from mathquarry.data.store.manifests import FIELDS, read_manifest
from mathquarry.data.store.sources import identify
from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.verification import verify
from mathquarry.data.store.workspace import Workspace
from mathquarry.flows.__main__ import main


def work(workspace: Workspace) -> dict[str, Any]:
    (workspace.out / "model").write_text("weights")
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
        {"files": [{"path": "x", "bytes": True, "sha256": "0"}]},
        {"sources": [{"path": "x", "bytes": "1", "sha256": "0"}]},
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
    assert collect(store) == 0
    assert victim.exists()
    assert path.exists()


def test_a_manifest_needs_no_more_than_the_fields_that_are_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = made(store, "mine")
    least = {name: value for name, value in artifact.manifest.items() if name in FIELDS}
    least["code"] = {name: artifact.manifest["code"][name] for name in ("version", "revision")}
    (artifact.path / "manifest.json").write_text(json.dumps(least))
    assert read_manifest(artifact.path) == least
    for field in least:
        (artifact.path / "manifest.json").write_text(json.dumps({name: value for name, value in least.items() if name != field}))
        with pytest.raises(MathQuarryError, match=f"lacks '{field}'"):
            read_manifest(artifact.path)
    for field in ("version", "revision"):
        (artifact.path / "manifest.json").write_text(json.dumps({**least, "code": {field: "1"}}))
        with pytest.raises(MathQuarryError, match="lacks 'version' or 'revision'"):
            read_manifest(artifact.path)


def old(path: Path) -> None:
    os.utime(path, (0, 0))


def test_collecting_passes_over_a_damaged_manifest_and_keeps_what_it_was_made_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    crawl = made(store, "crawl")
    mine = made(store, "mine", crawl=crawl.key)
    sft = made(store, "sft", corpus=mine.key)
    unwanted = made(store, "grpo")
    Ledger(store).sync()
    run(store, "done", "completed", 1, sft)
    for artifact in (sft, mine):
        (artifact.path / "manifest.json").write_bytes(b"\0" * 50)
        old(artifact.path / "manifest.json")
    assert collect(store) == 0
    out, err = capsys.readouterr()
    assert f"skipped, damaged: sft/{sft.key}" in err
    assert f"deleted grpo/{unwanted.key}" in out
    assert store.find("crawl", crawl.key) is not None
    assert mine.path.exists()
    assert collect(store) == 0, "the ledger that gc rebuilt still knows the inputs"
    assert store.find("crawl", crawl.key) is not None


def test_collecting_deletes_no_artifact_while_nobody_knows_what_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    crawl, mine = made(store, "crawl"), made(store, "mine")
    (store.root / "work" / "dead" / "scratch").mkdir(parents=True)
    manifest = mine.path / "manifest.json"
    content = manifest.read_bytes()
    manifest.write_text("[]")
    assert collect(store) == 0
    assert "no artifact is deleted" in capsys.readouterr().out
    assert store.find("crawl", crawl.key) is not None
    assert not (store.root / "work" / "dead").exists()
    manifest.write_bytes(content)
    old(manifest)
    for damaged in ("", "[]", '{"id": "r"}', '{"status": "completed", "started": "2024-01-01T00:00:00Z", "stages": [3]}'):
        run(store, "r", "completed", 1, mine)
        store.run_path("r").write_text(damaged)
        assert collect(store) == 0
        out, err = capsys.readouterr()
        assert "no artifact is deleted" in out
        assert "skipped, damaged: run/" in err
        assert store.find("crawl", crawl.key) is not None
    run(store, "r", "completed", 1, mine)
    assert collect(store) == 0
    assert store.find("crawl", crawl.key) is None
    assert store.find("mine", mine.key) is not None


@pytest.mark.parametrize("key", ["../x", "", ".", "a/b", "/etc"])
def test_what_is_no_key_names_no_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(MathQuarryError, match="not a stage or key"):
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


def test_collecting_keeps_every_run_until_more_are_completed_than_to_be_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cut, done = made(store, "crawl"), made(store, "mine")
    run(store, "cut", "failed", 1, cut)
    run(store, "done", "completed", 2, done)
    assert collect(store, "--keep-runs", "1") == 0
    assert store.find(cut.stage, cut.key) is not None
    newer = made(store, "sft")
    run(store, "newer", "completed", 3, newer)
    assert collect(store, "--keep-runs", "1") == 0
    assert [store.find(one.stage, one.key) is not None for one in (cut, done, newer)] == [False, False, True]


def test_collecting_keeps_what_is_being_made_with_its_inputs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    source, again = made(store, "mine"), made(store, "sft")

    def collecting(workspace: Workspace) -> dict[str, Any]:
        (workspace.scratch / "checkpoint").write_text("hours")
        assert collect(store) == 0
        assert store.find("mine", source.key) is not None
        assert (workspace.scratch / "checkpoint").exists()
        return work(workspace)

    store.build(Identity("grpo", 1, {}, {"corpus": source.key}), collecting)
    store.build(Identity("sft", 1, {}, {"corpus": source.key}), collecting)
    made(store, "sft")
    store.build(Identity("sft", 1, {}, {}), collecting, mode="rebuild")
    assert store.find("sft", again.key) is not None


def test_collecting_keeps_the_files_of_an_attempt_that_failed(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(workspace: Workspace) -> dict[str, Any]:
        (workspace.scratch / "checkpoint").write_text("hours")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.build(Identity("sft", 1, {}, {}), fail)
    assert collect(store) == 0
    assert (tmp_path / "work" / Identity("sft", 1, {}, {}).key / "scratch" / "checkpoint").read_text() == "hours"


def test_the_work_folder_of_an_attempt_that_left_no_files_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(workspace: Workspace) -> dict[str, Any]:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.build(Identity("sft", 1, {}, {}), fail)
    room = tmp_path / "work" / Identity("sft", 1, {}, {}).key
    with exclusive(room):
        assert Collection(store, None, 1.0).rooms == [], "somebody tries again"
    assert Collection(store, None, 1.0).rooms == [room]
    assert collect(store) == 0
    assert not room.exists()


def test_what_was_unused_and_is_needed_by_now_is_not_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = made(store, "mine")
    collection = Collection(store, None, 1.0)
    assert [one.key for one in collection.unused] == [artifact.key]
    with exclusive(tmp_path / "work" / artifact.key):
        assert not collection.delete(collection.unused[0]), "somebody makes it again"
    run(store, "r", "running", 1, artifact)
    assert not collection.delete(collection.unused[0]), "a run names it"
    assert store.find("mine", artifact.key) is not None


def test_what_is_locked_is_in_use_also_without_a_lease(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with exclusive(tmp_path / "work" / "k1"), exclusive(tmp_path / "work" / "k2"):
        assert store.in_use() == {"k1", "k2"}
        assert store.in_use(besides="k2") == {"k1"}
    assert store.in_use() == set()


def test_what_is_gone_can_be_removed_again_and_a_store_may_lack_its_work_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = made(store, "mine")
    shutil.rmtree(tmp_path / "work")
    for _ in range(2):
        store.remove("mine", artifact.key)
        assert store.find("mine", artifact.key) is None


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    artifact = made(Store(tmp_path), "mine")
    path = artifact.path / "manifest.json"
    path.unlink()
    with pytest.raises(MathQuarryError, match=f"{path} does not exist"):
        read_manifest(artifact.path)
    path.mkdir()
    with pytest.raises(MathQuarryError, match=f"{path} cannot be read"):
        read_manifest(artifact.path)


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
    sent = here.build(Identity("mine", 1, {}, {}), lambda workspace: pytest.fail("made again"))
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

    monkeypatch.setattr("mathquarry.data.store.store.sync_path", stop)
    with pytest.raises(Killed):
        store.build(Identity("mine", 1, {}, {}), lambda workspace: {"new": 1}, mode="rebuild")
    assert seen == [{"new": 1}]
    assert store.get("mine", old.key).summary == {"new": 1}


def test_a_ledger_that_cannot_be_written_does_not_fail_a_published_stage(tmp_path: Path) -> None:
    from mathquarry.tasks.stage import _record

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


def test_every_file_is_synced_before_the_manifest_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    order: list[str] = []

    def note(path: Path) -> None:
        order.append("the place" if path == tmp_path / "artifacts" / "mine" else path.name)

    def manifest(path: Path, value: Any) -> None:
        order.append(path.name)
        path.write_text(json.dumps(value))

    def several(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "shards").mkdir()
        for name in ("model", "shards/one", "shards/two"):
            (workspace.out / name).write_text("x")
        return {}

    monkeypatch.setattr("mathquarry.data.store.store.sync_path", note)
    monkeypatch.setattr("mathquarry.data.store.store.write_json", manifest)
    store.build(Identity("mine", 1, {}, {}), several)
    assert set(order[:-2]) == {"model", "one", "two", "shards", "out"}
    assert order[-2:] == ["manifest.json", "the place"]


def test_what_another_published_between_look_and_lock_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Store(tmp_path)
    usual = mathquarry.data.store.store.exclusive

    @contextmanager
    def late(room: Path) -> Iterator[None]:
        monkeypatch.setattr("mathquarry.data.store.store.exclusive", usual)
        other.build(Identity("mine", 1, {}, {}), work)
        with usual(room):
            yield

    monkeypatch.setattr("mathquarry.data.store.store.exclusive", late)
    assert Store(tmp_path).build(Identity("mine", 1, {}, {}), lambda workspace: pytest.fail("made twice")).reused


def test_a_folder_is_known_by_the_names_of_its_files_too(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "one").write_text("x")
    before = identify(str(tmp_path / "pages"))[0].sha256
    (tmp_path / "pages" / "one").rename(tmp_path / "pages" / "two")
    assert identify(str(tmp_path / "pages"))[0].sha256 != before


def test_a_source_with_names_that_are_not_utf8_and_looped_links_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / os.fsdecode(b"\xff")).write_text("x")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("..")
    assert identify(str(folder))[0].bytes == 1


@pytest.mark.parametrize("name", [b"\xff", b"loop", b"out", b"folder"])
def test_a_stage_that_makes_what_no_manifest_can_name_is_reported(tmp_path: Path, name: bytes) -> None:
    def odd(workspace: Workspace) -> dict[str, Any]:
        path = workspace.out / os.fsdecode(name)
        if name == b"\xff":
            path.write_text("x")
        else:
            path.symlink_to({b"loop": "loop", b"out": "/etc/hostname", b"folder": "."}[name])
        return {}

    with pytest.raises(MathQuarryError, match="UTF-8" if name == b"\xff" else "link"):
        Store(tmp_path).build(Identity("mine", 1, {}, {}), odd)


def test_verify_tells_all_that_is_wrong_and_one_damaged_artifact_spoils_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good, changed, wrong, lost = (made(store, stage) for stage in ("good", "changed", "wrong", "lost"))
    heir = made(store, "heir", source=lost.key)
    damaged = made(store, "damaged")
    run(store, "r", "completed", 1, lost)
    (tmp_path / "runs" / "list.json").write_text("[]")
    (changed.path / "model").write_text("other")
    (changed.path / "extra").write_text("x")
    (changed.path / os.fsdecode(b"\xff")).write_text("x")
    (wrong.path / "manifest.json").write_text(json.dumps(wrong.manifest | {"config": {"seed": 2}}))
    (damaged.path / "manifest.json").write_text("[" * 200_000)
    (tmp_path / "artifacts" / "good" / "odd name").mkdir()
    store.remove("lost", lost.key)
    whole, problems = verify(store)
    assert whole == 2
    for words in (
        ("changed", "model has changed"),
        ("changed", "extra is not in its manifest"),
        ("changed", "\\xff is not in its manifest"),
        ("wrong", "its key does not follow"),
        ("damaged", "is not JSON"),
        (heir.key, f"its source {lost.key} is missing"),
        ("run r", "lost/"),
        ("run list", "is damaged"),
        ("odd name", "not a stage and a key"),
    ):
        assert any(all(word in problem for word in words) for problem in problems), words
    assert len(problems) == 9
    assert store.get("good", good.key).path == good.path


def test_what_was_collected_is_not_missed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for day in (1, 2):
        run(store, f"r{day}", "completed", day, made(store, f"stage{day}"))
    assert collect(store, "--keep-runs", "1") == 0
    assert {stage for stage, _ in store.published()} == {"stage2"}
    assert verify(store) == (1, [])


def test_an_artifact_that_was_reused_today_is_young(tmp_path: Path) -> None:
    store = Store(tmp_path)
    reused, got, old = made(store, "reused"), made(store, "got"), made(store, "old")
    store.build(Identity("reused", 1, {}, {}), work)
    store.get("got", got.key)
    assert collect(store) == 0
    assert {key for _, key in store.published()} == {reused.key, got.key}
    assert store.find("old", old.key) is None


def test_a_link_among_the_artifacts_leads_no_deletion_out_of_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    artifact = made(store, "mine")
    outside = tmp_path / "outside"
    artifact.path.rename(outside)
    artifact.path.symlink_to(outside)
    assert collect(store) == 0
    store.remove("mine", artifact.key)
    assert (outside / "model").read_text() == "weights"


def test_a_moved_and_a_copied_store_work_from_their_new_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "old")
    artifact = made(store, "mine")
    Ledger(store).sync()
    shutil.copytree(store.root, tmp_path / "copy")
    store.root.rename(tmp_path / "new's")
    for name in ("copy", "new's"):
        ledger = Ledger(Store(tmp_path / name))
        place = str(tmp_path / name / "artifacts" / "mine" / artifact.key)
        assert ledger.resolve("mine")["path"] == place
        assert ask(ledger, "select path from artifacts").rows == [(place,)]
        assert ask(ledger, "select file from json_files").rows == [("manifest.json",)]
        ledger.catch_up()
        assert ledger.query("select path from artifacts") == [{"path": place}]


def test_a_failed_run_and_the_names_of_its_stages_are_listed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    artifact = made(store, "grpo")
    Ledger(store).sync()
    run(store, "r", "running", 1, artifact)
    store.write_run(
        store.run("r") | {"stages": [{"name": "grpo-2", "stage": "grpo", "key": artifact.key, "reused": False}], "status": "failed"}
    )
    assert main(["ledger", "ls", "--runs", "--store", str(tmp_path)]) == 0
    assert main(["ledger", "ls", "--store", str(tmp_path)]) == 0
    runs, failed, artifacts, row = capsys.readouterr().out.splitlines()
    assert (runs.split()[0], artifacts.split()[0]) == ("run", "key")
    assert failed.split()[:3] == ["r", "r", "failed"]
    assert failed.split()[-1] == "grpo-2"
    assert row.split()[:3] == [artifact.key, "grpo", "grpo-2"]


def test_a_store_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    for command in (["ls"], ["sync"], ["verify"], ["gc"]):
        assert main(["ledger", *command, "--store", str(tmp_path / "store")]) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no right to mount a small file system: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))


def test_a_disk_that_is_full_before_a_stage_begins_is_reported_and_leaves_nothing_in_the_way(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    store.root.mkdir()
    fill(small_disk / "filler")
    with pytest.raises(MathQuarryError, match="No space left on device. Free some space"):
        store.build(Identity("sft", 1, {}, {}), work)
    (small_disk / "filler").unlink()
    assert (store.build(Identity("sft", 1, {}, {}), work).path / "model").read_text() == "weights"


@pytest.mark.parametrize("root", ["nosuch://bucket/x", "a\0b", "x" * 5000, "~nobody-of-that-name/x"])
def test_what_cannot_be_a_store_is_one_clear_error(root: str) -> None:
    with pytest.raises(MathQuarryError, match="--store"):
        Store(root)
