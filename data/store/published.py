"""Reads a store: published artifacts and run files, fetched from the remote store if there is one."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Set
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path, exchange, read_json
from mathquarry.data.store.artifacts import Artifact, dated
from mathquarry.data.store.leases import Leases
from mathquarry.data.store.locks import clear, exclusive
from mathquarry.data.store.manifests import MANIFEST, check_name, is_name, read_manifest
from mathquarry.data.store.mirror import Remote


class Damaged(NamedTuple):
    """An artifact or a run whose file cannot be read."""

    stage: str
    """`run` for a run."""
    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.stage}/{self.key}: {self.problem}"


class Published:
    """The artifacts and runs under `root`, a folder or an fsspec URL. Raises `MathQuarryError` if `root` cannot be a store."""

    def __init__(self, root: str | Path) -> None:
        self.url = str(root)
        self.remote: Remote | None = None
        files: fsspec.AbstractFileSystem
        if "://" in self.url and not self.url.startswith("file://"):
            try:
                self.remote = Remote(self.url)
            except (ValueError, ImportError) as error:
                raise MathQuarryError(f"the store {self.url} cannot be opened: {error}. Name another with --store.") from None
            mirrors = Path(os.environ.get("MATHQUARRY_CACHE", "~/.cache/mathquarry")).expanduser()
            self.root = mirrors / hashlib.sha256(self.url.encode()).hexdigest()[:12]
            files, place = self.remote.files, self.remote.root
        else:
            files = LocalFileSystem()
            try:
                self.root = Path(self.url.removeprefix("file://")).expanduser().resolve()
                self.root.exists()  # the name may be too long, or in a folder that may not be entered
            except (OSError, ValueError, RuntimeError) as error:
                raise MathQuarryError(f"{self.url[:200]!r} cannot be a store: {error}. Name another with --store.") from None
            place = str(self.root)
        if self.root.exists() and not self.root.is_dir():
            raise MathQuarryError(f"{self.root} is not a folder, so it cannot be a store. Name another with --store.")
        self.leases = Leases(files, place, self.root / "work")

    @property
    def ledger_path(self) -> Path:
        """The DuckDB file, beside the artifacts (for a remote store: in its local mirror)."""
        return self.root / "ledger.duckdb"

    def folder(self, stage: str, key: str) -> Path:
        """Path where an artifact is, or will be."""
        return self.root / "artifacts" / check_name(stage) / check_name(key)

    def find(self, stage: str, key: str) -> Artifact | None:
        """The published artifact, fetched from the remote store if needed; None when there is none.

        An artifact that the remote store lacks is not published, even if the local mirror has it: the upload may have failed.
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
        """Like `find`, but a missing artifact raises `MathQuarryError`."""
        artifact = self.find(stage, key)
        if artifact is None:
            raise MathQuarryError(f"the store {self.url} holds no {stage} artifact {key}. Run the stage that makes it first.")
        self._mark_used(key)
        return artifact

    def published(self) -> set[tuple[str, str]]:
        """(stage, key) of every published artifact. Links, and folders whose names cannot be a stage and a key, are left out."""
        if self.remote is not None:
            return self.remote.published()
        found = (path.parent for path in self.root.glob(f"artifacts/*/*/{MANIFEST}"))
        return {
            (path.parent.name, path.name) for path in found if is_name(path.parent.name) and is_name(path.name) and not path.is_symlink()
        }

    def manifests(self, without: Set[str] = frozenset(), damaged: list[Damaged] | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(folder, manifest) of every artifact in the store, stage by stage, without reading those whose key is in `without`.

        A damaged manifest is added to `damaged` and skipped; without that list it raises a `MathQuarryError` naming it.
        """
        for stage, key in sorted(self.published()):
            if key in without:
                continue
            try:
                artifact = self.find(stage, key)
            except MathQuarryError as error:
                if damaged is None:
                    raise
                damaged.append(Damaged(stage, key, str(error)))
                continue
            if artifact is not None:
                yield artifact.path, artifact.manifest

    def runs(self, damaged: list[Damaged] | None = None) -> list[dict[str, Any]]:
        """Every recorded run, oldest first. A damaged file is added to `damaged`; without that list it raises `MathQuarryError`."""
        found = []
        for name in sorted(self.run_names()):
            try:
                found.append(self.run(name))
            except MathQuarryError as error:
                if damaged is None:
                    raise
                damaged.append(Damaged("run", name, str(error)))
        return sorted(found, key=lambda run: str(run.get("started")))

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
            raise MathQuarryError(f"{path} is damaged: it is not a JSON object. Restore a complete copy, or delete it.")
        return run

    def run_path(self, name: str) -> Path:
        """The file of a run."""
        return self.root / "runs" / f"{name}.json"

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
                # Another process of this host may have fetched it meanwhile; then the two copies are exchanged.
                exchange(incoming, folder)
                return True
            finally:
                clear(room)

    def _mark_used(self, key: str) -> None:
        with suppress(OSError):  # a read-only store, which is never garbage-collected either
            (self.root / "used").mkdir(exist_ok=True)
            (self.root / "used" / key).touch()


def _is(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
