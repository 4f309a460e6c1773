"""What of a store nobody needs: artifacts that no run names and nothing is made of, and what killed work left."""

from __future__ import annotations

import time
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

from data.errors import MathQuarryError
from data.manifests import is_name
from data.store import REMOVED, Store


class Unused(NamedTuple):
    """An artifact that may go: its stage, key, folder and size."""

    stage: str
    key: str
    bytes: int


class Collection:
    """What `ledger gc` would delete. Raises `MathQuarryError` when a manifest or a run file is damaged: then nobody knows what is needed.

    Kept are artifacts that runs name (or, with `keep_runs`, those of the newest so many completed ones, of all that began after them and
    of running ones), artifacts that are being made or go into such, those made or reused in the last `hours`, and what all of these were
    made from at any depth.
    """

    def __init__(self, store: Store, keep_runs: int | None, hours: float) -> None:
        self._store, self._keep_runs, self._seconds = store, keep_runs, hours * 3600
        self._found = {folder.name: (folder.parent.name, manifest) for folder, manifest in store.manifests()}
        needed = self._needed()
        created = sorted(self._found, key=lambda key: (str(self._found[key][1]["created"]), key))
        self.unused = [self._unused(key) for key in created if key not in needed]
        self.rooms = [
            room
            for room in sorted(store.root.glob("work/*"))
            if room.is_dir() and not room.is_symlink() and self._left_over(room, self._found)
        ]

    def delete(self, one: Unused) -> bool:
        """Delete an artifact; False when it is needed by now. Nobody begins to make something of it meanwhile."""
        with self._store.unused(one.key) as free:
            if not free or one.key in self._needed(besides=one.key):
                return False
            self._store.remove(one.stage, one.key)
        for run in self._store.runs():
            # Whoever verifies the store then knows that the artifact was not lost.
            gone = [stage for stage in _stages(run) if stage["key"] == one.key and not stage.get("collected")]
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
        since = time.time() - self._seconds
        needed = _named(self._store.runs(), self._keep_runs) | self._store.in_use(besides)
        needed |= {key for key, (stage, _) in self._found.items() if self._store.used_at(stage, key) > since}
        waiting = list(needed)
        while waiting:
            inputs = set(self._found[key][1]["inputs"].values()) if (key := waiting.pop()) in self._found else set()
            waiting += inputs - needed
            needed |= inputs
        return needed

    def _left_over(self, room: Path, found: Container[str]) -> bool:
        """Whether nobody needs a work folder: its artifact is published, or it holds nothing of an attempt, and its lock is free."""
        holds = any(path.is_file() and path.name != "lock" and path.relative_to(room).parts[0] != REMOVED for path in room.rglob("*"))
        only_cache = room.name.startswith("fetch-")
        return is_name(room.name) and (room.name in found or not holds or only_cache) and not self._store.being_made(room.name)


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _named(runs: list[dict[str, Any]], keep: int | None) -> set[str]:
    """Keys that runs name: all runs, or the newest `keep` completed ones, those that began after them, and running ones of any age."""
    for run in runs:
        if not isinstance(run.get("status"), str) or not isinstance(run.get("started"), str):
            raise MathQuarryError(f"the file of run {run.get('id')} is damaged: no status or start. Put back a copy, or delete it.")
    completed = sorted(run["started"] for run in runs if run["status"] == "completed")
    if keep is None or len(completed) <= keep:
        kept = runs
    else:
        since = completed[-keep] if keep else None
        kept = [run for run in runs if run["status"] == "running" or (since is not None and run["started"] >= since)]
    return {str(stage["key"]) for run in kept for stage in _stages(run)}


def _stages(run: dict[str, Any]) -> list[dict[str, Any]]:
    stages = run.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) and isinstance(stage.get("key"), str) for stage in stages):
        raise MathQuarryError(f"the file of run {run.get('id')} is damaged: its stages have no keys. Put back a copy, or delete it.")
    return stages
