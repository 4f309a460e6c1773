"""A store in a bucket, served by a local S3 server with conditional writes."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs

from mathquarry.data.errors import BeingMade
from mathquarry.data.ledger.collection import Collection
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.conditional import Conditional
from mathquarry.data.store.leases import LEASE_SECONDS, TURN
from mathquarry.data.store.manifests import verify_files
from mathquarry.data.store.store import Identity, Store
from mathquarry.data.store.verification import verify
from mathquarry.data.store.workspace import Workspace

pytestmark = pytest.mark.slow  # to import and start the server takes seconds

IDENTITY = Identity("mine", 1, {}, {})
Host = Callable[[str], Store]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    # Imported here: vLLM looks at every name of every imported module when it starts, and Flask's raise an error then.
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def host(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Host:
    """A host's view of one store in its own bucket."""
    for name, value in {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{abs(hash(request.node.name))}"
    s3fs.S3FileSystem().mkdir(bucket)

    def store(name: str) -> Store:
        monkeypatch.setenv("MATHQUARRY_CACHE", str(tmp_path / name))
        return Store(f"s3://{bucket}/deep/store")

    return store


def work(workspace: Workspace) -> dict[str, Any]:
    (workspace.out / "deep").mkdir()
    (workspace.out / "deep" / "value").write_text("x" * 1000)
    (workspace.out / "empty").write_text("")
    return {"value": 1}


def lease(store: Store, until: float, name: str = "other") -> str:
    """Another host's lease of the artifact; returns its path."""
    assert store.remote is not None
    path = f"{store.remote.root}/leases/{IDENTITY.key}/{TURN}"
    content = {"place": name, "host": name, "process": 1, "purpose": "make", "inputs": [], "name": name, "until": until}
    store.remote.files.pipe_file(path, json.dumps(content).encode())
    return path


def test_what_one_host_publishes_another_reads_whole(host: Host) -> None:
    here, there = host("here"), host("there")
    made = here.build(IDENTITY, work)
    found = there.find("mine", made.key)
    assert found is not None
    assert verify_files(found.path, found.manifest) == []
    assert there.build(IDENTITY, work).reused
    assert there.build(IDENTITY, work, mode="rebuild").manifest["created"] == here.get("mine", made.key).manifest["created"]
    when = "2024-01-01T00:00:00Z"
    here.write_run({"id": "r1", "recipe": "r", "started": when, "ended": when, "status": "completed", "config": {}, "stages": []})
    assert [run["id"] for run in there.runs()] == ["r1"]
    assert verify(there) == (1, [])
    assert Ledger(there).sync().damaged == []


def test_leases_are_given_back_and_collecting_leaves_nothing(host: Host) -> None:
    here = host("here")
    here.build(IDENTITY, work)
    assert here.remote is not None
    assert here.leases.live() == []
    (unused,) = Collection(here, None, -1).unused
    assert Collection(here, None, -1).delete(unused)
    assert here.find("mine", IDENTITY.key) is None
    assert here.remote.files.find(here.remote.root) == []


def test_of_many_hosts_that_come_at_once_one_makes_it(host: Host) -> None:
    stores = [host(str(number)) for number in range(4)]
    for turn in range(3):
        outcomes = race(stores, Identity("mine", 1, {"turn": turn}, {}))
        assert outcomes["made"] == outcomes["most at work"] == 1
        assert outcomes["made"] + outcomes["reused"] + outcomes["stepped back"] == len(stores)


def race(stores: list[Store], identity: Identity) -> Counter[str]:
    """The outcomes of hosts that build one artifact at the same moment, and how many were at work at once."""
    ready, outcomes = threading.Barrier(len(stores)), Counter[str]()

    def slow(workspace: Workspace) -> dict[str, Any]:
        outcomes["at work"] += 1
        outcomes["most at work"] = max(outcomes["most at work"], outcomes["at work"])
        time.sleep(0.2)
        outcomes["at work"] -= 1
        return work(workspace)

    def come(store: Store) -> None:
        ready.wait()
        try:
            outcomes["reused" if store.build(identity, slow).reused else "made"] += 1
        except BeingMade:
            outcomes["stepped back"] += 1

    hosts = [threading.Thread(target=come, args=(store,)) for store in stores]
    for one in hosts:
        one.start()
    for one in hosts:
        one.join()
    return outcomes


def test_a_living_host_is_waited_for_and_a_dead_one_is_not(host: Host) -> None:
    here = host("here")
    lease(here, time.time() + 60)
    with pytest.raises(BeingMade, match="another host"):
        here.build(IDENTITY, work)
    lease(here, time.time() - LEASE_SECONDS)
    assert not here.build(IDENTITY, work).reused


def test_a_lease_that_is_garbage_holds_for_as_long_as_a_lease_does(host: Host) -> None:
    here = host("here")
    assert here.remote is not None
    here.remote.files.pipe_file(lease(here, 0), b"\xff[")
    with pytest.raises(BeingMade, match="another host"):
        here.build(IDENTITY, work)


def test_who_lost_the_lease_publishes_nothing_and_leaves_the_lease_of_the_other(host: Host) -> None:
    here = host("here")
    assert here.remote is not None

    def overtaken(workspace: Workspace) -> dict[str, Any]:
        lease(here, time.time() + 60, "the other")
        return work(workspace)

    with pytest.raises(BeingMade, match="Nothing was published"):
        here.build(IDENTITY, overtaken)
    assert here.find("mine", IDENTITY.key) is None
    (path,) = here.remote.files.find(f"{here.remote.root}/leases")
    assert json.loads(here.remote.files.cat_file(path))["name"] == "the other"


def test_a_request_that_was_sent_again_does_not_meet_itself(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = s3fs.S3FileSystem._pipe_file

    async def twice(self: s3fs.S3FileSystem, *arguments: Any, **more: Any) -> Any:
        await usual(self, *arguments, **more)
        return await usual(self, *arguments, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", twice)
    s3fs.S3FileSystem.clear_instance_cache()
    here = host("here")
    assert here.remote is not None
    conditional, path = Conditional(here.remote.files), f"{here.remote.root}/twice"
    version = conditional.create(path, b"1")
    assert version is not None
    assert conditional.create(path, b"2") is None
    assert conditional.replace(path, b"3", version) is not None
    assert conditional.replace(path, b"4", version) is None
    assert conditional.read(path) is not None
    conditional.delete(path, version)
    assert here.remote.files.exists(path)
    assert conditional.replace(f"{path}-gone", b"5", version) is None


def test_a_server_that_ignores_conditions_is_found_out_and_used_without(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = s3fs.S3FileSystem._pipe_file

    async def ignoring(self: s3fs.S3FileSystem, path: str, value: bytes, **more: Any) -> Any:
        return await usual(self, path, value)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", ignoring)
    s3fs.S3FileSystem.clear_instance_cache()
    here, there = host("here"), host("there")
    assert here.remote is not None
    assert Conditional.of(here.remote.files, here.remote.root) is None
    lease(there, time.time() + 60)
    with pytest.raises(BeingMade, match="another host"):
        here.build(IDENTITY, work)
    lease(there, 0)
    assert here.build(IDENTITY, work).key == IDENTITY.key
    assert there.find("mine", IDENTITY.key) is not None
