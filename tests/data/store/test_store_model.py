"""Store and ledger against a plain dictionary: in any order of operations, nothing is lost and every answer is correct."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.collection import Collection
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Artifact, Identity, Store
from mathquarry.data.store.verification import verify
from mathquarry.data.store.workspace import Workspace

MOMENTS = ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "utime")
"""System calls of `os` before which a process may be killed."""


def writer(value: int) -> Callable[[Workspace], dict[str, Any]]:
    def work(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "value").write_text(str(value))
        return {"value": value}

    return work


def killed_at(count: int, moments: tuple[str, ...], action: Callable[[], object]) -> bool:
    """Run `action` in a child that kills itself before the `count`-th of `moments`; returns whether it got that far."""
    child = os.fork()
    if child == 0:
        left = count

        def counted(usual: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return usual(*arguments, **more)

            return call

        for name in moments:
            setattr(os, name, counted(getattr(os, name)))
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


class Machine(RuleBasedStateMachine):
    """Three artifacts, each made from the one before, and one run file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.store = Store(self.folder / "store-0")
        self.there: dict[str, int] = {}
        """The published artifacts: value by stage."""
        self.maybe: dict[str, set[int | None]] = {}
        """The artifacts that a killed process may have left, until somebody looks."""
        self.wanted: set[str] = set()
        self.count = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def first(self) -> None:
        self.build("a")

    def identity(self, stage: str) -> Identity:
        before = {"b": "a", "c": "b"}.get(stage)
        return Identity(stage, 1, {}, {"from": self.identity(before).key} if before else {})

    def ready(self, stage: str) -> bool:
        before = {"b": "a", "c": "b"}.get(stage)
        return before is None or self.look(before) is not None

    def look(self, stage: str) -> Artifact | None:
        """The published artifacts of a stage, which must match the dictionary."""
        found = self.store.find(stage, self.identity(stage).key)
        value = None if found is None else int((found.path / "value").read_text())
        if found is not None:
            assert found.summary == {"value": value}
        assert value in self.maybe.pop(stage, {self.there.get(stage)})
        if value is None:
            self.there.pop(stage, None)
        else:
            self.there[stage] = value
        return found

    @rule(stage=st.sampled_from("abc"))
    def build(self, stage: str) -> None:
        if not self.ready(stage):
            return
        found = self.look(stage)
        self.count += 1
        made = self.store.build(self.identity(stage), writer(self.count))
        assert made.reused == (found is not None)
        self.there[stage] = made.summary["value"]
        assert self.there[stage] == (self.count if found is None else found.summary["value"])

    @rule(stage=st.sampled_from("abc"))
    def rebuild(self, stage: str) -> None:
        if self.ready(stage):
            self.look(stage)
            self.count += 1
            self.there[stage] = self.store.build(self.identity(stage), writer(self.count), mode="rebuild").summary["value"]
            assert self.there[stage] == self.count

    @rule(stage=st.sampled_from("abc"), mode=st.sampled_from(["reuse", "rebuild"]))
    def fail(self, stage: str, mode: Any) -> None:
        def work(workspace: Workspace) -> dict[str, Any]:
            (workspace.out / "value").write_text("half")
            raise ZeroDivisionError

        if self.look(stage) is None or mode == "rebuild":
            with pytest.raises(ZeroDivisionError):
                self.store.build(self.identity(stage), work, mode=mode)

    @rule(stage=st.sampled_from("abc"), at=st.integers(0, 40), moments=st.sampled_from([MOMENTS, ("rename",), ("fsync",)]))
    def kill(self, stage: str, at: int, moments: tuple[str, ...]) -> None:
        if not self.ready(stage):
            return
        self.look(stage)
        self.count += 1
        value = self.count
        identity = self.identity(stage)
        dead = killed_at(at, moments, lambda: self.store.build(identity, writer(value), mode="rebuild"))
        self.maybe[stage] = {self.there.get(stage), value} if dead else {value}

    @rule(stage=st.sampled_from("abc"))
    def want(self, stage: str) -> None:
        if (found := self.look(stage)) is not None:
            self.wanted = {stage}
            stages = [{"name": stage, "stage": stage, "key": found.key, "reused": True}]
            when = "2024-02-05T00:00:00Z"
            self.store.write_run(
                {"id": "r", "recipe": "r", "started": when, "ended": when, "status": "completed", "config": {}, "stages": stages}
            )

    @rule(at=st.one_of(st.none(), st.integers(0, 30)))
    def collect(self, at: int | None) -> None:
        for stage in "abc":
            self.look(stage)

        def action() -> None:
            collection = Collection(self.store, None, -1)
            for one in collection.unused:
                assert collection.delete(one)
            for room in collection.rooms:
                assert collection.clear(room)

        dead = False
        if at is None:
            action()
        else:
            dead = killed_at(at, MOMENTS, action)
        kept: set[str] = set()
        for stage in self.wanted:
            kept |= set("abc"[: "abc".index(stage) + 1])
        for stage in set(self.there) - kept:
            self.maybe[stage] = {None, self.there[stage]} if dead else {None}

    @rule()
    def move(self) -> None:
        target = self.folder / f"store-{self.count}-moved"
        if not target.exists():
            self.store.root.rename(target)
            self.store = Store(target)

    @rule()
    def second_reader(self) -> None:
        self.store = Store(self.store.root)

    @precondition(lambda self: len(self.there) > 0)
    @rule(how=st.sampled_from(["sync", "catch_up"]))
    def tell(self, how: str) -> None:
        for stage in "abc":
            self.look(stage)
        ledger = Ledger(self.store)
        getattr(ledger, how)()
        rows = {row["stage"]: row for row in ledger.query("select stage, key, path, summary->>'value' as value from artifacts")}
        assert {stage: int(row["value"]) for stage, row in rows.items()} == self.there
        assert all(Path(row["path"]) == self.store.folder(stage, row["key"]) for stage, row in rows.items())

    @rule()
    def check(self) -> None:
        for stage in "abc":
            self.look(stage)
        whole, problems = verify(self.store)
        assert whole == len(self.there)
        assert [problem for problem in problems if "is missing" not in problem] == []

    @invariant()
    def no_half_artifact_is_found(self) -> None:
        for stage, key in sorted(self.store.published()):
            found = self.store.find(stage, key)
            assert found is not None
            assert found.summary == {"value": int((found.path / "value").read_text())}


def test_a_few_sequences_of_everything_agree_with_a_dictionary() -> None:
    run_state_machine_as_test(Machine, settings=_settings(10, 12))


@pytest.mark.slow
def test_two_thousand_sequences_of_everything_agree_with_a_dictionary() -> None:
    run_state_machine_as_test(Machine, settings=_settings(2000, 8))


def _settings(examples: int, steps: int) -> settings:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet, database=None, derandomize=True
    )


def test_a_killed_child_is_noticed() -> None:
    assert killed_at(0, ("mkdir",), lambda: os.mkdir("/nonexistent/x"))
    with pytest.raises(MathQuarryError):
        Store(Path(__file__)).find("a", "b")
