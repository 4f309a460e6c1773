"""The artifact store: immutable folders named by what made them.

An artifact's key is a hash of the stage, its version, its config and the keys of its inputs. The same key means the same artifact, so a
stage whose artifact exists is skipped. Publishing is atomic: the folder is filled beside its final place, synced, given its
`manifest.json` last, and renamed. The manifest is the truth; the DuckDB ledger (`data/ledger.py`) can always be rebuilt from it.

Layout of a store:

    artifacts/<stage>/<key>/manifest.json + files     work/<key>/scratch, out, lock     runs/<run>.json     ledger.duckdb
    leases/<key>/NAME.json (who makes it: `data/locks.py`)     used/<key> (when it was last reused)

A store may be an fsspec URL (`s3://bucket/prefix`). Then a local folder mirrors it: artifacts are built and read locally, uploaded when
published (manifest last), and fetched when another host has published them (`data/mirror.py`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from data.artifacts import Artifact, Identity, dated, describe
from data.environment import Meter, Usage
from data.errors import BeingMade, MathQuarryError, NotMade
from data.files import atomic_path, disk_error, exchange, read_json, sync_path, write_json
from data.locks import COLLECT, Held, Hold, Leases, exclusive, is_locked
from data.manifests import MANIFEST, check_name, is_name, read_manifest, verify_files
from data.mirror import Remote
from data.workspace import MetricLog, Progress, Workspace

BuildMode = Literal["reuse", "rebuild", "require"]
"""reuse: make what is missing; rebuild: make it again and replace it; require: missing is an error."""


REMOVED = "removed"
"""In a work folder: an artifact that is being deleted."""


class Store:
    """Finds, builds and publishes artifacts under `root`, a folder or an fsspec URL. Raises `MathQuarryError` for a file."""

    def __init__(self, root: str | Path) -> None:
        self.url = str(root)
        self.remote: Remote | None = None
        files: fsspec.AbstractFileSystem
        if "://" in self.url and not self.url.startswith("file://"):
            self.remote = Remote(self.url)
            mirrors = Path(os.environ.get("MATHQUARRY_CACHE", "~/.cache/mathquarry")).expanduser()
            self.root = mirrors / hashlib.sha256(self.url.encode()).hexdigest()[:12]
            files, place = self.remote.files, self.remote.root
        else:
            self.root = Path(self.url.removeprefix("file://")).expanduser().resolve()
            files, place = LocalFileSystem(), str(self.root)
        if self.root.exists() and not self.root.is_dir():
            raise MathQuarryError(f"{self.root} is no folder, so it cannot be a store. Name another with --store.")
        self.leases = Leases(files, place, self.root / "work")

    @property
    def ledger_path(self) -> Path:
        """The DuckDB file, beside the artifacts (for a remote store: in its local mirror)."""
        return self.root / "ledger.duckdb"

    def folder(self, stage: str, key: str) -> Path:
        """Where an artifact is, or will be."""
        return self.root / "artifacts" / check_name(stage) / check_name(key)

    def find(self, stage: str, key: str) -> Artifact | None:
        """The published artifact, fetched from the remote store where needed; None when there is none.

        What a remote store lacks is not published, even where the local mirror has it: the upload may have failed.
        """
        folder = self.folder(stage, key)
        if self.remote is not None:
            content = self.remote.manifest(stage, key)
            if content is None or not (_is(folder / MANIFEST, content) or self._fetch(stage, key)):
                return None
        elif not (folder / MANIFEST).exists():
            return None
        return Artifact(folder, read_manifest(folder), reused=True)

    def get(self, stage: str, key: str) -> Artifact:
        """Like `find`, for somebody who is going to use it: a missing artifact is a `MathQuarryError`."""
        artifact = self.find(stage, key)
        if artifact is None:
            raise MathQuarryError(f"the store {self.url} holds no {stage} artifact {key}. Run the stage that makes it first.")
        self._mark_used(key)
        return artifact

    def published(self) -> set[tuple[str, str]]:
        """(stage, key) of every published artifact. Folders that cannot be those of one, and links, are left out."""
        if self.remote is not None:
            return self.remote.published()
        found = (path.parent for path in self.root.glob(f"artifacts/*/*/{MANIFEST}"))
        return {
            (path.parent.name, path.name) for path in found if is_name(path.parent.name) and is_name(path.name) and not path.is_symlink()
        }

    def manifests(self, without: Set[str] = frozenset()) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(folder, manifest) of every artifact in the store, stage by stage; those whose key is in `without` are not even read.

        Raises `MathQuarryError` naming a manifest that is damaged.
        """
        for stage, key in sorted(self.published()):
            if key not in without and (artifact := self.find(stage, key)) is not None:
                yield artifact.path, artifact.manifest

    def build(
        self,
        identity: Identity,
        work: Callable[[Workspace], dict[str, Any]],
        *,
        progress: Progress | None = None,
        mode: BuildMode = "reuse",
    ) -> Artifact:
        """Return the artifact of `identity`, calling `work` to make it where `mode` says so.

        `work` gets an empty `out` folder and a `scratch` folder that keeps what an interrupted attempt left. Raises `BeingMade` when
        another process is making the same artifact, and `MathQuarryError` when the disk is full; then nothing is published and `scratch` is
        kept.
        """
        existing = self.find(identity.stage, identity.key)
        if existing is not None and mode != "rebuild":
            self._mark_used(identity.key)
            return existing
        if mode == "require":
            raise NotMade(
                f"{identity.stage} {identity.key} is not in the store {self.url}, but the run begins after it. Run again without --from.",
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
                metrics = MetricLog(scratch / "metrics.jsonl")
                meter = Meter(scratch / "usage.json")
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
        """Hold the lock and the lease of `key` inside the block, so that nobody begins to make it, or to make something of it.

        False when somebody does so now.
        """
        room = self.root / "work" / check_name(key)
        try:
            with exclusive(room), self.leases.hold(key, {}, COLLECT):
                # Its own lock is held here, so only leases of others tell of `key`.
                free = not any(key in lease.inputs for _, lease in self.leases.live())
                yield free
                if free:
                    (self.root / "used" / key).unlink(missing_ok=True)
                    shutil.rmtree(room, ignore_errors=True)
        except Held:
            yield False

    def write_run(self, run: dict[str, Any]) -> None:
        """Record a run of a recipe (`runs/<id>.json`)."""
        path = self.run_path(run["id"])
        write_json(path, run)
        if self.remote is not None:
            self.remote.put_run(path)

    def runs(self) -> list[dict[str, Any]]:
        """Every recorded run, oldest first."""
        return sorted((self.run(name) for name in self.run_names()), key=lambda run: str(run.get("started")))

    def run_names(self) -> set[str]:
        """Ids of every recorded run."""
        names = {path.stem for path in self.root.glob("runs/*.json")}
        return names | (self.remote.run_names() if self.remote is not None else set())

    def run(self, name: str) -> dict[str, Any]:
        """The recorded run with this id. Raises `MathQuarryError` when there is none, or its file is damaged."""
        path = self.run_path(name)
        if self.remote is not None and (content := self.remote.run(name)) is not None and not _is(path, content):
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        run = read_json(path)
        if not isinstance(run, dict):
            raise MathQuarryError(f"{path} is damaged: it is no JSON object. Put back a whole copy, or delete it.")
        return run

    def run_path(self, name: str) -> Path:
        """The file of a run."""
        return self.root / "runs" / f"{name}.json"

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact, whose lock the caller holds: in one step, or in a remote store its manifest first."""
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
        """What was killed between the two steps of an exchange, on a file system that has no single one, is put back."""
        aside, folder = room / "replaced.old", self.folder(identity.stage, identity.key)
        if (aside / MANIFEST).exists() and not folder.exists():
            aside.rename(folder)

    def _whole_mirror(self, identity: Identity) -> Artifact | None:
        """What this host made and could not upload, if its files are whole."""
        folder = self.folder(identity.stage, identity.key)
        if self.remote is None or not (folder / MANIFEST).exists():
            return None
        manifest = read_manifest(folder)
        return None if verify_files(folder, manifest) else Artifact(folder, manifest)

    def _upload(self, artifact: Artifact, hold: Hold) -> None:
        if self.remote is not None:
            self.remote.upload(artifact.path, artifact.manifest, lambda: _check_lease(hold, artifact))

    def _fetch(self, stage: str, key: str) -> bool:
        assert self.remote is not None
        folder = self.folder(stage, key)
        room = self.root / "work" / f"fetch-{uuid.uuid4().hex}"
        with exclusive(room):
            try:
                incoming = room / stage / key
                incoming.mkdir(parents=True)
                if not self.remote.fetch(stage, key, incoming):
                    return False
                dated(incoming / MANIFEST, datetime.fromisoformat(read_manifest(incoming)["created"]))
                folder.parent.mkdir(parents=True, exist_ok=True)
                # Another process of this host may have fetched it meanwhile; then the two copies change places.
                exchange(incoming, folder)
                return True
            finally:
                shutil.rmtree(room, ignore_errors=True)

    def _mark_used(self, key: str) -> None:
        with suppress(OSError):  # a store for reading only, which nobody collects either
            (self.root / "used").mkdir(exist_ok=True)
            (self.root / "used" / key).touch()

    @contextmanager
    def _held(self, room: Path, identity: Identity) -> Iterator[Hold]:
        try:
            with exclusive(room), self.leases.hold(identity.key, identity.inputs) as hold:
                for role, key in identity.inputs.items():
                    if self.leases.collected(key):
                        raise MathQuarryError(f"the {role} {key} of {identity.stage} is being deleted by `ledger gc`. Run again.")
                yield hold
                # Only a finished stage gets here; after an error or a kill the scratch folder stays for the next attempt.
                shutil.rmtree(room, ignore_errors=True)
        except Held as other:
            raise BeingMade(
                f"{other} is making {identity.stage} {identity.key} in {self.url}. Wait for it, or stop it, and run again."
            ) from None


def _check_lease(hold: Hold, made: Identity | Artifact) -> None:
    if not hold.still():
        raise BeingMade(
            f"{made.stage} {made.key} took its turn for too long: the store could not be reached to renew it, and another host may be "
            "making it now. Nothing was published. Run again."
        )


def _is(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
