"""Finds what a store no longer needs: artifacts that no run names and nothing was made from, and leftovers of killed work."""

from __future__ import annotations

import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.making import MAKING
from mathquarry.data.store.manifests import is_name
from mathquarry.data.store.published import Damaged
from mathquarry.data.store.store import REMOVED, USAGE, Store

RECORDS = (Path("lock"), Path(MAKING), Path("scratch", USAGE))
"""Files of a work folder that the store writes by itself. Alone, they are nothing that an attempt could continue from."""


class Unused(NamedTuple):
    """An artifact that may be deleted: its stage, key and size."""

    stage: str
    key: str
    bytes: int


class Collection:
    """The files that `ledger gc` would delete.

    It keeps artifacts that runs name, artifacts that are being made and their inputs, artifacts made or reused in the last `hours`, and
    everything that these were made from, at any depth. With `keep_runs`, only these runs count: the newest `keep_runs` completed ones, all
    that began after them, and running ones. An artifact with a damaged manifest is kept with its inputs, if the ledger knows them. If it
    does not, or if a run's file is damaged, nobody knows what is needed, and all artifacts are kept.
    """

    def __init__(self, store: Store, keep_runs: int | None, hours: float) -> None:
        self._store, self._keep_runs, self._seconds = store, keep_runs, hours * 3600
        self.damaged: list[Damaged] = []
        """The files that could not be read."""
        manifests = store.manifests(damaged=self.damaged)
        self._found = {folder.name: (folder.parent.name, manifest) for folder, manifest in manifests}
        self._inputs = {key: set(manifest["inputs"].values()) for key, (_, manifest) in self._found.items()}
        unread = {one.key for one in self.damaged}
        self._kept = unread
        """Artifacts that are needed even if no run names them."""
        if unread:
            with suppress(MathQuarryError):
                self._inputs |= Ledger(store).known_inputs(unread)
        self.blind = bool(unread - self._inputs.keys())
        """Whether it is impossible to know what is needed, so that no artifact is deleted."""
        needed = self._needed()
        created = sorted(self._found, key=lambda key: (str(self._found[key][1]["created"]), key))
        self.unused = [self._unused(key) for key in created if key not in needed]
        self.rooms = [
            room
            for room in sorted(store.root.glob("work/*"))
            if room.is_dir() and not room.is_symlink() and self._left_over(room, self._found)
        ]

    def delete(self, one: Unused) -> bool:
        """Delete an artifact; False when it is needed by now. Nobody can start to use it as an input meanwhile."""
        with self._store.unused(one.key) as free:
            if not free or one.key in self._needed(besides=one.key):
                return False
            self._store.remove(one.stage, one.key)
        for run in self._store.runs(damaged=[]):
            # This tells `verify` that the artifact was not lost.
            gone = [stage for stage in _stages(run) or [] if stage["key"] == one.key and not stage.get("collected")]
            if gone:
                for stage in gone:
                    stage["collected"] = True
                self._store.write_run(run)
        return True

    def clear(self, room: Path) -> bool:
        """Delete a work folder; False when somebody works in it by now."""
        with self._store.unused(room.name) as free:
            return free

    def _unused(self, key: str) -> Unused:
        stage, manifest = self._found[key]
        return Unused(stage, key, sum(file["bytes"] for file in manifest["files"]))

    def _needed(self, besides: str | None = None) -> set[str]:
        damaged: list[Damaged] = []
        runs = self._store.runs(damaged)
        named = _named(runs, self._keep_runs, damaged)
        self.damaged += [one for one in damaged if one not in self.damaged]
        if damaged or self.blind:
            self.blind = True
            return set(self._found)
        since = time.time() - self._seconds
        needed = named | self._kept | self._store.in_use(besides)
        needed |= {key for key, (stage, _) in self._found.items() if self._store.used_at(stage, key) > since}
        waiting = list(needed)
        while waiting:
            inputs = self._inputs.get(waiting.pop(), set())
            waiting += inputs - needed
            needed |= inputs
        return needed

    def _left_over(self, room: Path, found: Container[str]) -> bool:
        """Whether a work folder is unneeded: its lock is free, and its artifact is published or it holds no files of an attempt."""
        files = (path.relative_to(room) for path in room.rglob("*") if path.is_file())
        holds = any(file not in RECORDS and file.parts[0] != REMOVED for file in files)
        only_cache = room.name.startswith("fetch-")
        return is_name(room.name) and (room.name in found or not holds or only_cache) and not self._store.being_made(room.name)


def size_of(folder: Path) -> int:
    """Total size in bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _named(runs: list[dict[str, Any]], keep: int | None, damaged: list[Damaged]) -> set[str]:
    """Keys named by all runs; with `keep`, if more are completed: by the newest `keep` of them, those that began later, and running ones.

    Runs that lack a status, a start or stages are added to `damaged`.
    """
    whole = []
    for run in runs:
        if isinstance(run.get("status"), str) and isinstance(run.get("started"), str) and _stages(run) is not None:
            whole.append(run)
        else:
            damaged.append(Damaged("run", str(run.get("id")), "its file has no status, start or stages. Put back a copy, or delete it."))
    completed = sorted(run["started"] for run in whole if run["status"] == "completed")
    if keep is None or len(completed) <= keep:
        kept = whole
    else:
        since = completed[-keep] if keep else None
        kept = [run for run in whole if run["status"] == "running" or (since is not None and run["started"] >= since)]
    return {stage["key"] for run in kept for stage in _stages(run) or []}


def _stages(run: dict[str, Any]) -> list[dict[str, Any]] | None:
    """A run's stages; None where the file is damaged."""
    stages = run.get("stages")
    whole = isinstance(stages, list) and all(isinstance(stage, dict) and isinstance(stage.get("key"), str) for stage in stages)
    return stages if whole else None
