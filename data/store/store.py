"""The artifact store: immutable folders, each named by a hash of what made it.

An artifact's key is a hash of the stage, its version, its config and the keys of its inputs. The same key means the same artifact, so a
stage whose artifact exists is skipped. Publishing is atomic: the folder is filled beside its final place, synced, given its
`manifest.json` last, and renamed. The manifest is the truth; the DuckDB ledger (`data/ledger/ledger.py`) can always be rebuilt from it.

Layout of a store:

    artifacts/<stage>/<key>/manifest.json + files     work/<key>/scratch, out, lock, making.json     runs/<run>.json     ledger.duckdb
    leases/<key>/NAME.json (who is making it: `data/store/leases.py`)     used/<key> (when it was last reused)

A store may be an fsspec URL (`s3://bucket/prefix`). Then a local folder mirrors it: artifacts are built and read locally, uploaded when
published (manifest last), and fetched when another host has published them (`data/store/mirror.py`).
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from mathquarry.data.errors import BeingMade, MathQuarryError, NotMade
from mathquarry.data.files import disk_error, exchange, sync_path, write_json
from mathquarry.data.store.artifacts import Artifact, Identity, dated, describe
from mathquarry.data.store.environment import Meter, Usage
from mathquarry.data.store.leases import COLLECT, Hold
from mathquarry.data.store.locks import Held, clear, exclusive, is_locked
from mathquarry.data.store.making import write_making
from mathquarry.data.store.manifests import MANIFEST, check_name, read_manifest, verify_files
from mathquarry.data.store.published import Published
from mathquarry.data.store.workspace import MetricLog, Progress, Workspace

BuildMode = Literal["reuse", "rebuild", "require"]
"""reuse: make what is missing; rebuild: make it again and replace it; require: missing is an error."""


REMOVED = "removed"
"""Name, in a work folder, of an artifact that is being deleted."""
USAGE = "usage.json"
"""Name, in the scratch folder, of what earlier attempts used."""


class Store(Published):
    """Finds, builds and publishes artifacts under `root`, a folder or an fsspec URL. Raises `MathQuarryError` for a file."""

    def build(
        self,
        identity: Identity,
        work: Callable[[Workspace], dict[str, Any]],
        *,
        progress: Progress | None = None,
        mode: BuildMode = "reuse",
    ) -> Artifact:
        """Return the artifact of `identity`, calling `work` to make it where `mode` says so.

        `work` gets an empty `out` folder and a `scratch` folder that keeps the files of an interrupted attempt. Raises `BeingMade` when
        another process is making the same artifact, and `MathQuarryError` when the disk is full; then nothing is published and `scratch` is
        kept.
        """
        existing = self.find(identity.stage, identity.key)
        if existing is not None and mode != "rebuild":
            self._mark_used(identity.key)
            return existing
        if mode == "require":
            raise NotMade(
                f"{identity.stage} {identity.key} is not in the store {self.url}, but the run begins after it. Run again without "
                "--from and --only.",
                identity.key,
            )
        room = self.root / "work" / identity.key
        with self._held(room, identity) as hold:
            self._put_back(room, identity)
            again = self.find(identity.stage, identity.key)
            if again is not None and mode != "rebuild":
                self._mark_used(identity.key)
                return again
            if mode != "rebuild" and (unsent := self._whole_mirror(identity)) is not None:
                self._upload(unsent, hold)
                return unsent
            out, scratch = room / "out", room / "scratch"
            shutil.rmtree(out, ignore_errors=True)
            try:
                out.mkdir(parents=True)
                scratch.mkdir(parents=True, exist_ok=True)
                write_making(room, identity)
                metrics = MetricLog(scratch / "metrics.jsonl")
                meter = Meter(scratch / USAGE)
                try:
                    summary = work(Workspace(out, scratch, progress or Progress(), metrics))
                except BaseException:
                    meter.keep()
                    raise
                if metrics.path.exists():
                    shutil.copyfile(metrics.path, out / metrics.path.name)
                return self._publish(identity, out, summary, meter.used(), hold)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise disk_error(error, room) from error
                raise

    def being_made(self, key: str) -> bool:
        """Whether a process on this host is making the artifact `key`."""
        return is_locked(self.root / "work" / check_name(key))

    def in_use(self, besides: str | None = None) -> set[str]:
        """Keys of artifacts that are being made, here or on another host, and of what goes into them.

        The lock of `besides`, which the caller holds, does not count.
        """
        busy = {room.name for room in self.root.glob("work/*") if room.name != besides and is_locked(room)}
        for key, lease in self.leases.live():
            if lease.purpose != COLLECT:
                busy |= {key, *lease.inputs}
        return busy

    def used_at(self, stage: str, key: str) -> float:
        """When an artifact was made, or last reused on this host, in seconds since 1970."""
        paths = (self.folder(stage, key) / MANIFEST, self.root / "used" / key)
        return max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)

    @contextmanager
    def unused(self, key: str) -> Iterator[bool]:
        """Hold the lock and the lease of `key` inside the block, so that nobody starts to make it or to use it as an input.

        Yields False when somebody does so now.
        """
        room = self.root / "work" / check_name(key)
        try:
            with exclusive(room), self.leases.hold(key, {}, COLLECT):
                # This block holds the lock of `key`, so only leases of other keys can show that it is in use.
                free = not any(key in lease.inputs for _, lease in self.leases.live())
                yield free
                if free:
                    (self.root / "used" / key).unlink(missing_ok=True)
                    clear(room)
        except Held:
            yield False

    def write_run(self, run: dict[str, Any]) -> None:
        """Record a run of a recipe (`runs/<id>.json`)."""
        path = self.run_path(run["id"])
        write_json(path, run)
        if self.remote is not None:
            self.remote.put_run(path)

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact, whose lock the caller holds: in one step, or, in a remote store, with its manifest first."""
        if self.remote is not None:
            self.remote.remove(stage, key)
        folder = self.folder(stage, key)
        if folder.is_symlink():
            folder.unlink()
            return
        aside = self.root / "work" / key / REMOVED
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _publish(self, identity: Identity, out: Path, summary: dict[str, Any], usage: Usage, hold: Hold) -> Artifact:
        manifest, created = describe(identity, out, summary, usage)
        files = manifest["files"]
        for file in files:
            sync_path(out / file["path"])
        for below in {(out / file["path"]).parent for file in files}:
            sync_path(below)
        write_json(out / MANIFEST, manifest)
        dated(out / MANIFEST, created)
        folder = self.folder(identity.stage, identity.key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        replaced = out.with_name("replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        out.rename(replaced)
        _check_lease(hold, identity)
        exchange(replaced, folder)
        sync_path(folder.parent)
        artifact = Artifact(folder, read_manifest(folder))
        self._upload(artifact, hold)
        return artifact

    def _put_back(self, room: Path, identity: Identity) -> None:
        """Restore the artifact if a kill came between the two steps of an exchange, on a file system without an atomic one."""
        aside, folder = room / "replaced.old", self.folder(identity.stage, identity.key)
        if (aside / MANIFEST).exists() and not folder.exists():
            aside.rename(folder)

    def _whole_mirror(self, identity: Identity) -> Artifact | None:
        """The artifact that this host made but could not upload, if its files are intact."""
        folder = self.folder(identity.stage, identity.key)
        if self.remote is None or not (folder / MANIFEST).exists():
            return None
        manifest = read_manifest(folder)
        return None if verify_files(folder, manifest) else Artifact(folder, manifest)

    def _upload(self, artifact: Artifact, hold: Hold) -> None:
        if self.remote is not None:
            self.remote.upload(artifact.path, artifact.manifest, lambda: _check_lease(hold, artifact))

    @contextmanager
    def _held(self, room: Path, identity: Identity) -> Iterator[Hold]:
        try:
            with exclusive(room), self.leases.hold(identity.key, identity.inputs) as hold:
                for role, key in identity.inputs.items():
                    if self.leases.collected(key):
                        raise MathQuarryError(f"the {role} {key} of {identity.stage} is being deleted by `ledger gc`. Run again.")
                yield hold
                # Only a finished stage gets here; after an error or a kill the scratch folder stays for the next attempt.
                clear(room)
        except Held as other:
            raise BeingMade(
                f"{other} is making {identity.stage} {identity.key} in {self.url}. Wait for it, or stop it, and run again."
            ) from None


def _check_lease(hold: Hold, made: Identity | Artifact) -> None:
    if not hold.still():
        raise BeingMade(
            f"{made.stage} {made.key} lost its lease: the store could not be reached to renew it, and another host may be "
            "making it now. Nothing was published. Run again."
        )
