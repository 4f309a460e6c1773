"""The remote side of a store at an fsspec URL (`s3://bucket/prefix`). Local copies are a cache: only the remote side decides what exists.

The manifest is uploaded last and downloaded first, so a reader sees a complete artifact or none. Remote folders whose names are not a stage
and a key are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.manifests import MANIFEST, check_manifest, is_name, verify_files

ATTEMPTS = 3
"""Attempts to fetch an artifact that is replaced during the download."""


class Remote:
    """Artifacts and run files under `root` of a filesystem."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: fsspec.AbstractFileSystem
        self.files, self.root = fsspec.core.url_to_fs(url)

    def manifest(self, stage: str, key: str) -> bytes | None:
        """The manifest's bytes; None when the artifact is not published."""
        try:
            return bytes(self.files.cat_file(self._path(stage, key, MANIFEST)))
        except FileNotFoundError:
            return None

    def published(self) -> set[tuple[str, str]]:
        """(stage, key) of every published artifact."""
        self.files.invalidate_cache()
        found = (str(path).split("/")[-3:-1] for path in self.files.glob(f"{self.root}/artifacts/*/*/{MANIFEST}"))
        return {(stage, key) for stage, key in found if is_name(stage) and is_name(key)}

    def upload(self, folder: Path, manifest: dict[str, Any], may_publish: Callable[[], None]) -> None:
        """Upload an artifact: delete an earlier manifest first, and write the new one last, after `may_publish`."""
        stage, key = manifest["stage"], manifest["key"]
        target = self._path(stage, key, MANIFEST)
        if self.manifest(stage, key) is not None:
            self.files.rm_file(target)
        for file in manifest["files"]:
            # Buckets have no folders; in other stores the folder has to exist.
            self.files.makedirs(self._path(stage, key, file["path"]).rsplit("/", 1)[0], exist_ok=True)
            self.files.put_file(str(folder / file["path"]), self._path(stage, key, file["path"]))
        may_publish()
        self.files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self.files.pipe_file(target, (folder / MANIFEST).read_bytes())

    def fetch(self, stage: str, key: str, folder: Path) -> bool:
        """Download an artifact into the empty `folder`; False when there is none. Raises `MathQuarryError` when it arrives damaged."""
        for _ in range(ATTEMPTS):
            content = self.manifest(stage, key)
            if content is None:
                return False
            manifest = check_manifest(content, f"{self.url}/artifacts/{stage}/{key}/{MANIFEST}", stage, key)
            problems = self._fill(manifest, folder)
            if self.manifest(stage, key) == content:
                break
        else:
            raise MathQuarryError(f"artifact {stage}/{key} of {self.url} keeps changing during the download. Run again later.")
        if problems:
            raise MathQuarryError(
                f"artifact {stage}/{key} arrived damaged from {self.url}: {'; '.join(problems)}. Make it again with `mathquarry run`."
            )
        (folder / MANIFEST).write_bytes(content)
        return True

    def size(self, stage: str, key: str, path: str) -> int | None:
        """Size in bytes of an artifact's file; None when it does not exist."""
        try:
            return int(self.files.info(self._path(stage, key, path))["size"])
        except FileNotFoundError:
            return None

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact, its manifest first."""
        if self.manifest(stage, key) is not None:
            self.files.rm_file(self._path(stage, key, MANIFEST))
        self.files.invalidate_cache()
        if self.files.exists(self._path(stage, key)):
            self.files.rm(self._path(stage, key), recursive=True)

    def put_run(self, path: Path) -> None:
        """Upload a run's file."""
        self.files.makedirs(f"{self.root}/runs", exist_ok=True)
        self.files.pipe_file(f"{self.root}/runs/{path.name}", path.read_bytes())

    def run(self, name: str) -> bytes | None:
        """The bytes of a run's file; None when there is none."""
        try:
            return bytes(self.files.cat_file(f"{self.root}/runs/{name}.json"))
        except FileNotFoundError:
            return None

    def run_names(self) -> set[str]:
        """Ids of the runs whose files are in the store."""
        self.files.invalidate_cache()
        names = {str(path).rsplit("/", 1)[-1].removesuffix(".json") for path in self.files.glob(f"{self.root}/runs/*.json")}
        return {name for name in names if is_name(name)}

    def _path(self, *parts: str) -> str:
        return "/".join([self.root, "artifacts", *parts])

    def _fill(self, manifest: dict[str, Any], folder: Path) -> list[str]:
        for file in manifest["files"]:
            target = folder / file["path"]
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self.files.get_file(self._path(manifest["stage"], manifest["key"], file["path"]), str(target))
            except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # `verify_files` reports it
        return verify_files(folder, manifest)
