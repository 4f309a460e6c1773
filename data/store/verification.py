"""Checks that a store is intact, and lists every problem, not only the first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.artifacts import Identity
from mathquarry.data.store.manifests import MANIFEST, is_name, read_manifest, verify_files
from mathquarry.data.store.sources import Source
from mathquarry.data.store.store import Store


class Verified(NamedTuple):
    """How many artifacts are intact, and the problems, one line each."""

    whole: int
    problems: list[str]


def verify(store: Store) -> Verified:
    """Check every artifact's manifest, files and key, and that all artifacts named by runs and inputs exist."""
    problems = _foreign(store)
    manifests: dict[str, dict[str, Any]] = {}
    whole = 0
    there = sorted(store.published())
    for stage, key in there:
        name = f"{stage}/{key}"
        try:
            artifact = store.find(stage, key)
        except MathQuarryError as error:
            problems.append(f"{name}: {error}")
            continue
        if artifact is None:
            continue  # deleted meanwhile
        manifests[key] = artifact.manifest
        found = verify_files(artifact.path, artifact.manifest) + _unlisted(artifact.path, artifact.manifest)
        found += _wrong_key(artifact.manifest) + (_remote(store, artifact.manifest) if store.remote is not None else [])
        problems += [f"{name}: {problem}" for problem in found]
        whole += not found
    keys = {key for _, key in there}
    for key, manifest in manifests.items():
        missing = [f"its {role} {other} is missing" for role, other in manifest["inputs"].items() if other not in keys]
        problems += [f"{manifest['stage']}/{key}: {problem}" for problem in missing]
    return Verified(whole, problems + _runs(store, keys))


def _wrong_key(manifest: dict[str, Any]) -> list[str]:
    sources = tuple(Source(str(one["path"]), one["sha256"], 0) for one in manifest["sources"])
    key = Identity(manifest["stage"], manifest["version"], manifest["config"], manifest["inputs"], sources).key
    return [] if key == manifest["key"] else [f"its key does not follow from stage, version, config, inputs and sources, which give {key}"]


def _unlisted(folder: Path, manifest: dict[str, Any]) -> list[str]:
    listed = {file["path"] for file in manifest["files"]} | {MANIFEST}
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in listed and (path.is_symlink() or not path.is_dir()):
            found.append(f"{os.fsencode(name).decode(errors='backslashreplace')} is not in its manifest")
    return found


def _remote(store: Store, manifest: dict[str, Any]) -> list[str]:
    """Files that the remote store lacks. Those of the local copy were checked before."""
    assert store.remote is not None
    return [
        f"{file['path']} is missing from {store.url}, or has another size"
        for file in manifest["files"]
        if store.remote.size(manifest["stage"], manifest["key"], file["path"]) != file["bytes"]
    ]


def _foreign(store: Store) -> list[str]:
    """Entries among the artifacts that are not artifacts."""
    if store.remote is not None:
        return []
    found = []
    for path in sorted(store.root.glob("artifacts/*/*")):
        name = os.fsencode(path.relative_to(store.root)).decode(errors="backslashreplace")
        if path.is_symlink():
            found.append(f"{name}: links are not followed")
        elif not (is_name(path.parent.name) and is_name(path.name)):
            found.append(f"{name}: its name is not a stage and a key")
        elif not (path / MANIFEST).exists():
            try:
                read_manifest(path)
            except MathQuarryError as error:
                found.append(f"{name}: it is not an artifact: {error}")
    return found


def _runs(store: Store, keys: set[str]) -> list[str]:
    problems = []
    for name in sorted(store.run_names()):
        try:
            stages = store.run(name)["stages"]
            missing = [f"{stage['name']} ({stage['stage']}/{stage['key']})" for stage in stages if _lacks(stage, keys)]
        except MathQuarryError as error:
            problems.append(f"run {name}: {error}")
        except (KeyError, TypeError, AttributeError):
            problems.append(f"run {name}: {store.run_path(name)} is damaged: its stages have no name, stage and key")
        else:
            problems += [f"run {name}: {stage} is missing" for stage in missing]
    return problems


def _lacks(stage: dict[str, Any], keys: set[str]) -> bool:
    return stage["key"] not in keys and not stage.get("collected")
