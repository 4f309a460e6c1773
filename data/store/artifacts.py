"""The types that describe an artifact: its identity, whose hash is its key, and its manifest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import file_digest
from mathquarry.data.store.environment import Usage, environment
from mathquarry.data.store.manifests import SCHEMA

if TYPE_CHECKING:
    from mathquarry.data.store.sources import Source

WARNINGS = "warnings.json"
"""A file that a stage may write: a JSON list of sentences that a person should read. The stage's page in the UI shows them first."""


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
        """Metrics the stage returned."""
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


def describe(identity: Identity, out: Path, summary: dict[str, Any], usage: Usage) -> tuple[dict[str, Any], datetime]:
    """The manifest of what a stage made in `out`, and the creation time recorded in it."""
    from mathquarry.data.store.sources import code_revision  # here, since who only reads artifacts need not wait for what reads sources

    created = datetime.now(UTC)
    manifest = {
        "schema": SCHEMA,
        "key": identity.key,
        "stage": identity.stage,
        "version": identity.version,
        "config": identity.config,
        "inputs": dict(identity.inputs),
        "sources": [vars(source) for source in identity.sources],
        "files": _files(out),
        "summary": summary,
        "seconds": usage.seconds,
        "usage": {"cpu_seconds": usage.cpu_seconds, "peak_bytes": usage.peak_bytes},
        "created": created.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "code": {
            "version": metadata.version("mathquarry"),
            "revision": code_revision(),
            "python": platform.python_version(),
        },
        "environment": environment(),
    }
    return manifest, created


def dated(path: Path, created: datetime) -> None:
    """Set a manifest file's modification time to its creation time, so that a reader sees whether the artifact was made again."""
    moment = int(created.timestamp()) * 1_000_000_000 + created.microsecond * 1000
    os.utime(path, ns=(moment, moment))


def _files(out: Path) -> list[dict[str, Any]]:
    """Path, size and SHA-256 of every file a stage made. Raises `MathQuarryError` for a file that a manifest cannot list."""
    files = []
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError:
            raise MathQuarryError(f"the stage made a file whose name is not UTF-8: {name!r}. Give it another name.") from None
        if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(out.resolve())):
            raise MathQuarryError(f"the stage made a link that is broken or leaves its folder: {name}. Copy its target instead.")
        if path.is_file():
            files.append({"path": name, "bytes": path.stat().st_size, "sha256": file_digest(path)})
    return files
