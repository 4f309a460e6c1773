"""The artifact store: immutable folders named by what made them.

An artifact's key is a hash of the stage, its version, its config and the keys of its inputs. The same key means the same artifact, so a
stage whose artifact exists is skipped. Publishing is atomic: the folder is filled beside its final place, synced, given its
`manifest.json` last, and renamed. The manifest is the truth; the DuckDB ledger (`data/ledger.py`) can always be rebuilt from it.

Layout of a store:

    artifacts/<stage>/<key>/manifest.json + files     work/<key>/scratch, out, lock     runs/<run>.json     ledger.duckdb

A store may be an fsspec URL (`s3://bucket/prefix`). Then a local folder mirrors it: artifacts are built and read locally, uploaded when
published (manifest last), and fetched when another host has published them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import fsspec

from data.environment import Meter, Usage, environment
from data.errors import BeingMade, MathQuarryError, NotMade
from data.files import disk_error, exchange, file_digest, read_json, sync_path, write_json
from data.manifests import MANIFEST, SCHEMA, check_name, read_manifest
from data.sources import Source, code_revision
from data.workspace import MetricLog, Progress, Workspace

BuildMode = Literal["reuse", "rebuild", "require"]
"""reuse: make what is missing; rebuild: make it again and replace it; require: missing is an error."""

INPUTS = "inputs.json"
"""In a work folder: keys of what goes into the artifact that is being made, which must not be collected."""


@dataclass(frozen=True)
class Artifact:
    """A published artifact: its manifest and the local folder that holds its files."""

    path: Path
    manifest: dict[str, Any]
    reused: bool = False

    @property
    def key(self) -> str:
        """Identity of the artifact, 20 hexadecimal digits."""
        return self.manifest["key"]

    @property
    def stage(self) -> str:
        """Stage that made it."""
        return self.manifest["stage"]

    @property
    def summary(self) -> dict[str, Any]:
        """Figures the stage returned."""
        return self.manifest["summary"]

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of work, over all attempts."""
        return self.manifest["seconds"]


@dataclass(frozen=True)
class Identity:
    """Everything that decides what an artifact is."""

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    sources: tuple[Source, ...] = ()

    @property
    def key(self) -> str:
        """Hash of stage, version, config, input keys and source digests."""
        content = {
            "stage": self.stage,
            "version": self.version,
            "config": self.config,
            "inputs": dict(self.inputs),
            "sources": sorted(source.sha256 for source in self.sources),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:20]


class Store:
    """Finds, builds and publishes artifacts under `root`, a folder or an fsspec URL."""

    def __init__(self, root: str | Path) -> None:
        self.url = str(root)
        self.remote: fsspec.AbstractFileSystem | None = None
        if "://" in self.url and not self.url.startswith("file://"):
            self.remote, self._remote_root = fsspec.core.url_to_fs(self.url)
            mirrors = Path(os.environ.get("MATHQUARRY_CACHE", "~/.cache/mathquarry")).expanduser()
            self.root = mirrors / hashlib.sha256(self.url.encode()).hexdigest()[:12]
        else:
            self.root = Path(self.url.removeprefix("file://")).expanduser().resolve()

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
        if self.remote is not None and not self.remote.exists(self._remote(stage, key, MANIFEST)):
            return None
        if not (folder / MANIFEST).exists():
            if self.remote is None:
                return None
            self._fetch(stage, key)
        return Artifact(folder, read_manifest(folder), reused=True)

    def get(self, stage: str, key: str) -> Artifact:
        """Like `find`, but a missing artifact is a `MathQuarryError`."""
        artifact = self.find(stage, key)
        if artifact is None:
            raise MathQuarryError(f"the store {self.url} holds no {stage} artifact {key}. Run the stage that makes it first.")
        return artifact

    def manifests(self, without: Set[str] = frozenset()) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(folder, manifest) of every artifact in the store, stage by stage; those whose key is in `without` are not even read.

        Raises `MathQuarryError` naming a manifest that is not JSON.
        """
        if self.remote is not None:
            for path in self.remote.glob(f"{self._remote_root}/artifacts/*/*/{MANIFEST}"):
                stage, key = path.split("/")[-3:-1]
                if key not in without:
                    self.find(stage, key)
        for stages in sorted(self.root.glob("artifacts/*/")):
            for key in sorted(entry.name for entry in os.scandir(stages) if entry.name not in without):
                if (stages / key / MANIFEST).exists():
                    yield stages / key, read_manifest(stages / key)

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
            return existing
        if mode == "require":
            raise NotMade(
                f"{identity.stage} {identity.key} is not in the store {self.url}, but the run begins after it. Run again without --from.",
                identity.key,
            )
        room = self.root / "work" / identity.key
        with self._locked(room, identity):
            again = self.find(identity.stage, identity.key)
            if again is not None and mode != "rebuild":
                return again
            if mode != "rebuild" and (unsent := self._whole_mirror(identity)) is not None:
                self._upload(unsent)
                return unsent
            out, scratch = room / "out", room / "scratch"
            shutil.rmtree(out, ignore_errors=True)
            try:
                out.mkdir(parents=True)
                scratch.mkdir(parents=True, exist_ok=True)
                write_json(room / INPUTS, dict(identity.inputs))
                metrics = MetricLog(scratch / "metrics.jsonl")
                meter = Meter(scratch / "usage.json")
                try:
                    summary = work(Workspace(out, scratch, progress or Progress(), metrics))
                except BaseException:
                    meter.keep()
                    raise
                if metrics.path.exists():
                    shutil.copyfile(metrics.path, out / metrics.path.name)
                return self._publish(identity, out, summary, meter.used())
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise disk_error(error, room) from error
                raise

    def being_made(self, key: str) -> bool:
        """Whether a process on this host is making the artifact `key`."""
        try:
            with (self.root / "work" / key / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def write_run(self, run: dict[str, Any]) -> None:
        """Record a run of a recipe (`runs/<id>.json`)."""
        path = self.run_path(run["id"])
        write_json(path, run)
        if self.remote is not None:
            self.remote.put(str(path), f"{self._remote_root}/runs/{path.name}")

    def runs(self) -> list[dict[str, Any]]:
        """Every recorded run, oldest first."""
        return sorted((self.run(name) for name in self.run_names()), key=lambda run: run["started"])

    def run_names(self) -> set[str]:
        """Ids of every recorded run."""
        names = {path.stem for path in self.root.glob("runs/*.json")}
        if self.remote is not None:
            names |= {path.rsplit("/", 1)[-1].removesuffix(".json") for path in self.remote.glob(f"{self._remote_root}/runs/*.json")}
        return names

    def run(self, name: str) -> dict[str, Any]:
        """The recorded run with this id. Raises `MathQuarryError` when there is none."""
        path = self.run_path(name)
        if self.remote is not None and self.remote.exists(f"{self._remote_root}/runs/{path.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.remote.get(f"{self._remote_root}/runs/{path.name}", str(path))
        return read_json(path)

    def run_path(self, name: str) -> Path:
        """The file of a run."""
        return self.root / "runs" / f"{name}.json"

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact. The manifest goes first, so a half-deleted artifact is never taken for a whole one."""
        if self.remote is not None and self.remote.exists(self._remote(stage, key, MANIFEST)):
            self.remote.rm(self._remote(stage, key, MANIFEST))
            self.remote.rm(self._remote(stage, key), recursive=True)
        folder = self.folder(stage, key)
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, identity: Identity, out: Path, summary: dict[str, Any], usage: Usage) -> Artifact:
        files: list[dict[str, Any]] = [
            {"path": str(path.relative_to(out)), "bytes": path.stat().st_size, "sha256": file_digest(path)}
            for path in sorted(out.rglob("*"))
            if path.is_file()
        ]
        manifest = {
            "schema": SCHEMA,
            "key": identity.key,
            "stage": identity.stage,
            "version": identity.version,
            "config": identity.config,
            "inputs": dict(identity.inputs),
            "sources": [vars(source) for source in identity.sources],
            "files": files,
            "summary": summary,
            "seconds": usage.seconds,
            "usage": {"cpu_seconds": usage.cpu_seconds, "peak_bytes": usage.peak_bytes},
            "created": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1000 % 1_000_000:06d}Z",
            "code": {
                "version": metadata.version("mathquarry"),
                "revision": code_revision(),
                "python": platform.python_version(),
            },
            "environment": environment(),
        }
        for file in files:
            sync_path(out / file["path"])
        write_json(out / MANIFEST, manifest)
        folder = self.folder(identity.stage, identity.key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        replaced = out.with_name("replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        out.rename(replaced)
        exchange(replaced, folder)
        sync_path(folder.parent)
        artifact = Artifact(folder, read_manifest(folder))
        self._upload(artifact)
        return artifact

    def _whole_mirror(self, identity: Identity) -> Artifact | None:
        """What this host made and could not upload, if its files are whole."""
        folder = self.folder(identity.stage, identity.key)
        if self.remote is None or not (folder / MANIFEST).exists():
            return None
        manifest = read_manifest(folder)
        return None if verify_files(folder, manifest) else Artifact(folder, manifest)

    def _upload(self, artifact: Artifact) -> None:
        """Bring an artifact to the remote store: an earlier manifest goes first and the new one comes last."""
        if self.remote is None:
            return
        manifest = self._remote(artifact.stage, artifact.key, MANIFEST)
        if self.remote.exists(manifest):
            self.remote.rm(manifest)
        for file in artifact.manifest["files"]:
            self.remote.put(str(artifact.path / file["path"]), self._remote(artifact.stage, artifact.key, file["path"]))
        self.remote.put(str(artifact.path / MANIFEST), manifest)

    def _remote(self, *parts: str) -> str:
        return "/".join([self._remote_root, "artifacts", *parts])

    def _fetch(self, stage: str, key: str) -> None:
        assert self.remote is not None
        folder = self.folder(stage, key)
        (self.root / "work").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"fetch-{key}-", dir=self.root / "work") as room:
            incoming = Path(room) / stage / key
            incoming.mkdir(parents=True)
            self.remote.get(self._remote(stage, key, MANIFEST), str(incoming / MANIFEST))
            manifest = read_manifest(incoming)
            for file in manifest["files"]:
                target = incoming / file["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                self.remote.get(self._remote(stage, key, file["path"]), str(target))
            if problems := verify_files(incoming, manifest):
                raise MathQuarryError(f"artifact {stage}/{key} arrived damaged from {self.url}: {'; '.join(problems)}.")
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Another process of this host may have fetched it meanwhile; then the two copies change places.
            exchange(incoming, folder)

    @contextmanager
    def unused(self, key: str) -> Iterator[bool]:
        """Hold the lock of `key` inside the block, so that nobody begins to make it; False when somebody is making it now."""
        room = self.root / "work" / check_name(key)
        try:
            with _exclusive(room):
                yield True
                shutil.rmtree(room, ignore_errors=True)
        except BlockingIOError:
            yield False

    def inputs_in_work(self) -> set[str]:
        """Keys of artifacts that are being made on this host, and of what goes into them."""
        busy = {room.name for room in self.root.glob("work/*") if (room / "lock").exists() and self.being_made(room.name)}
        inputs = [read_json(path) for key in busy if (path := self.root / "work" / key / INPUTS).exists()]
        return busy | {str(value) for roles in inputs for value in roles.values()}

    @contextmanager
    def _locked(self, room: Path, identity: Identity) -> Iterator[None]:
        try:
            with _exclusive(room):
                yield
                # Only a finished stage gets here; after an error or a kill the scratch folder stays for the next attempt.
                shutil.rmtree(room, ignore_errors=True)
        except BlockingIOError:
            raise BeingMade(
                f"another process is making {identity.stage} {identity.key} in {self.root}. Wait for it, or stop it, and run again."
            ) from None


@contextmanager
def _exclusive(room: Path) -> Iterator[None]:
    """Hold the lock of a work folder. Raises `BlockingIOError` when another process holds it."""
    while True:
        room.mkdir(parents=True, exist_ok=True)
        try:
            lock = (room / "lock").open("a+")
        except FileNotFoundError:  # removed by its last holder just now
            continue
        with lock:
            # The kernel drops the lock with the process, however that ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                same = os.path.samestat(os.fstat(lock.fileno()), (room / "lock").stat())
            except FileNotFoundError:
                same = False
            if same:
                yield
                return


def verify_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with an artifact's files: missing ones and ones whose bytes differ from the manifest. Empty when whole."""
    problems = []
    for file in manifest["files"]:
        path = folder / file["path"]
        if not path.exists():
            problems.append(f"{file['path']} is missing")
        elif path.stat().st_size != file["bytes"] or file_digest(path) != file["sha256"]:
            problems.append(f"{file['path']} has changed")
    return problems
