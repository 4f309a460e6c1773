"""A remote store that fails at every operation in turn: nothing is lost, and nothing missing is reported as present."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mathquarry.data.errors import BeingMade
from mathquarry.data.ledger.collection import Collection
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.leases import LEASE_SECONDS, Hold
from mathquarry.data.store.manifests import verify_files
from mathquarry.data.store.store import BuildMode, Identity, Store
from mathquarry.data.store.verification import verify
from mathquarry.data.store.workspace import Workspace

OPERATIONS = ("pipe_file", "put_file", "get_file", "cat_file", "rm_file", "rm", "ls", "glob", "info", "makedirs", "exists")
IDENTITY = Identity("mine", 1, {}, {})


class Faulty(MemoryFileSystem):
    """A store in memory whose `countdown`-th operation fails, before or after its effect."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    countdown: int | None = None
    after = False

    @classmethod
    def fails_at(cls, count: int | None, after: bool = False) -> None:
        cls.countdown, cls.after = count, after


def _failing(name: str) -> Any:
    usual = getattr(MemoryFileSystem, name)

    def call(self: Faulty, *arguments: Any, **more: Any) -> Any:
        count, Faulty.countdown = Faulty.countdown, None  # an operation that calls others counts as one
        if count == 0 and not Faulty.after:
            raise ConnectionError(f"{name} failed before its effect")
        try:
            answer = usual(self, *arguments, **more)
        finally:
            if count:
                Faulty.countdown = count - 1
        if count == 0:
            raise ConnectionError(f"{name} failed after its effect")
        return answer

    return call


for operation in OPERATIONS:
    setattr(Faulty, operation, _failing(operation))


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Store]]:
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.store.clear()
    Faulty.pseudo_dirs[:] = [""]
    stores = []
    for name in ("here", "there"):
        monkeypatch.setenv("MATHQUARRY_CACHE", str(tmp_path / name))
        stores.append(Store("faulty://bucket/store"))
    yield stores[0], stores[1]
    Faulty.fails_at(None)


def write(value: int) -> Any:
    def work(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "value").write_text(str(value))
        (workspace.out / "deep").mkdir()
        (workspace.out / "deep" / "value").write_text(str(value))
        return {"value": value}

    return work


def published(host: Store) -> int | None:
    """The artifacts that a host reads, whose files must be complete."""
    found = host.find("mine", IDENTITY.key)
    if found is None:
        return None
    assert verify_files(found.path, found.manifest) == []
    assert (found.path / "value").read_text() == str(found.summary["value"])
    return int(found.summary["value"])


def passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the leases of a lost host expire."""
    monkeypatch.setattr("mathquarry.data.store.leases.CLOCKS_DIFFER", -2 * LEASE_SECONDS)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", ["reuse", "rebuild"])
def test_what_is_published_is_there_and_what_failed_is_made_up_for(
    hosts: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, mode: BuildMode, after: bool
) -> None:
    here, there = hosts
    for count in range(200):
        Faulty.store.clear()
        Faulty.pseudo_dirs[:] = [""]
        if mode == "rebuild":
            here.build(IDENTITY, write(1), mode="rebuild")
        Faulty.fails_at(count, after)
        try:
            made = here.build(IDENTITY, write(2), mode="rebuild")
            failed = False
        except ConnectionError:
            failed = True
        reached = Faulty.countdown is None
        Faulty.fails_at(None)
        seen = published(there)
        if not failed:
            assert made.summary == {"value": 2}
            assert seen == 2
        assert seen in ((None, 2) if mode == "reuse" else (None, 1, 2))
        again = here.build(IDENTITY, write(3))
        assert published(there) == published(here) == again.summary["value"]
        assert not (again.reused and seen is None)
        assert verify(here).problems == []
        if not reached:
            assert count > 10
            return
    raise AssertionError("the build never came to its end")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_fetch_that_fails_leaves_nothing_half(hosts: tuple[Store, Store], after: bool) -> None:
    here, there = hosts
    for count in range(100):
        here.build(IDENTITY, write(count), mode="rebuild")
        Faulty.fails_at(count, after)
        try:
            seen = published(there)
        except ConnectionError:
            seen = count
        assert seen == count
        reached = Faulty.countdown is None
        Faulty.fails_at(None)
        assert published(there) == count
        if not reached:
            return
    raise AssertionError("the fetch never came to its end")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_collection_that_fails_deletes_nothing_that_is_needed_and_can_be_done_again(
    hosts: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    here, there = hosts
    wanted = here.build(Identity("sft", 1, {}, {}), write(5))
    stages = [{"name": "sft", "stage": "sft", "key": wanted.key, "reused": False}]
    when = "2024-02-05T00:00:00Z"
    here.write_run({"id": "r", "recipe": "r", "started": when, "ended": when, "status": "completed", "config": {}, "stages": stages})
    for count in range(200):
        here.build(IDENTITY, write(1))
        Faulty.fails_at(count, after)
        with suppress(ConnectionError):
            collect(here)
        reached = Faulty.countdown is None
        Faulty.fails_at(None)
        assert published(there) in (None, 1)
        assert there.get("sft", wanted.key).summary == {"value": 5}
        collect(here)
        assert published(there) is None
        if not reached:
            break
    Ledger(here).sync()
    assert Ledger(here).query("select stage from artifacts") == [{"stage": "sft"}]


def collect(store: Store) -> None:
    collection = Collection(store, None, -1)
    for one in collection.unused:
        collection.delete(one)


def test_a_host_that_died_blocks_others_for_as_long_as_its_lease(hosts: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = hosts

    class Died(BaseException):
        pass

    def die(workspace: Workspace) -> dict[str, Any]:
        monkeypatch.setattr("mathquarry.data.store.leases._remove", lambda files, path: None)
        raise Died

    with pytest.raises(Died):
        here.build(IDENTITY, die)
    monkeypatch.undo()
    with pytest.raises(BeingMade, match="another host"):
        there.build(IDENTITY, write(1))
    passed(monkeypatch)
    assert there.build(IDENTITY, write(1)).summary == {"value": 1}
    assert here.build(IDENTITY, write(2)).summary == {"value": 1}


def test_a_process_that_died_blocks_nobody_on_its_own_host(hosts: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = hosts
    with monkeypatch.context() as patch:
        patch.setattr("mathquarry.data.store.leases._remove", lambda files, path: None)
        with pytest.raises(ZeroDivisionError):
            here.build(IDENTITY, lambda workspace: {"value": 1 // 0})
    assert [key for key, _ in here.leases.live()] == []
    assert here.build(IDENTITY, write(1)).summary == {"value": 1}


def test_a_lease_is_renewed_and_nobody_publishes_without_one(hosts: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = hosts
    written: list[float] = []
    turned = threading.Event()
    write_lease = Hold.write

    def count(hold: Hold) -> None:
        write_lease(hold)
        written.append(time.time())
        if len(written) == 3:
            turned.set()

    monkeypatch.setattr("mathquarry.data.store.leases.LEASE_SECONDS", 0.4)
    monkeypatch.setattr(Hold, "write", count)
    assert here.build(IDENTITY, lambda workspace: {"renewed": turned.wait(60)}).summary == {"renewed": True}

    def away(hold: Hold) -> None:
        raise ConnectionError("away")

    def lose(workspace: Workspace) -> dict[str, Any]:
        monkeypatch.setattr(Hold, "write", away)
        monkeypatch.setattr(Hold, "still", lambda hold: False)
        return {"value": 9}

    monkeypatch.setattr(Hold, "write", write_lease)
    with pytest.raises(BeingMade, match="Nothing was published"):
        here.build(IDENTITY, lose, mode="rebuild")
    assert there.get("mine", IDENTITY.key).summary == {"renewed": True}
