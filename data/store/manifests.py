"""Reads manifests. Others may have written them, so names and paths are checked and never lead out of the artifact's folder."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import file_digest

MANIFEST = "manifest.json"
SCHEMA = 1
BYTES = 64 * 1024 * 1024
"""Largest manifest that is read; a million files take about that."""
FIELDS: dict[str, type | tuple[type, ...]] = {
    "stage": str,
    "key": str,
    "version": int,
    "config": dict,
    "inputs": dict,
    "sources": list,
    "files": list,
    "summary": dict,
    "seconds": (int, float),
    "created": str,
    "code": dict,
}

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}", re.ASCII)
_REMEDY = "Restore a complete copy, or delete its folder and make it again with `mathquarry run`."


def is_name(name: Any) -> bool:
    """Whether `name` can be a stage, a key or a run: one plain part of a path."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name))


def check_name(name: str) -> str:
    """`name`, if it is a stage or a key and thus one part of a path. Raises `MathQuarryError` for anything else."""
    if not is_name(name):
        raise MathQuarryError(f"{name!r} is not a stage or key of an artifact: use only letters, digits, - and _.")
    return name


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the artifact in `folder`, which ends in its stage and key.

    Raises `MathQuarryError` naming the file when it is not JSON, has another schema, belongs to another artifact, or lists a file
    outside the folder.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > BYTES:
            raise MathQuarryError(f"{path} is damaged: it is too large for a manifest. {_REMEDY}")
        content = path.read_bytes()
    except FileNotFoundError:
        raise MathQuarryError(f"{path} does not exist.") from None
    except OSError as error:
        raise MathQuarryError(f"{path} cannot be read: {error.strerror or error}.") from None
    return check_manifest(content, str(path), folder.parent.name, folder.name)


def check_manifest(content: bytes, name: str, stage: str, key: str) -> dict[str, Any]:
    """The manifest that `content` holds, of the artifact with that stage and key. Raises `MathQuarryError` naming it by `name`."""
    try:
        manifest = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not even text, or too deep
        raise MathQuarryError(f"{name} is not JSON: {error}. {_REMEDY}") from None
    if problem := _problem(manifest, stage, key):
        raise MathQuarryError(f"{name} {problem}. {_REMEDY}")
    return dict(manifest)


def verify_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """List the problems of an artifact's files: missing ones, links out of it, and ones whose bytes differ from the manifest."""
    problems = []
    here = folder.resolve()
    for file in manifest["files"]:
        path = folder / file["path"]
        try:
            if not path.is_file():
                problems.append(f"{file['path']} is missing")
            elif not path.resolve().is_relative_to(here):
                problems.append(f"{file['path']} is a link out of the artifact")
            elif path.stat().st_size != file["bytes"] or file_digest(path) != file["sha256"]:
                problems.append(f"{file['path']} has changed")
        except (OSError, RuntimeError) as error:  # a disk error, or links in a loop
            problems.append(f"{file['path']} cannot be read: {error}")
    return problems


def _problem(manifest: Any, stage: str, key: str) -> str | None:
    if not isinstance(manifest, dict):
        return "is damaged: it is not a JSON object"
    schema = manifest.get("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        return f"has schema {schema!r}, and this version of MathQuarry reads {SCHEMA}: read it with the version that wrote it"
    for field, kind in FIELDS.items():
        if field not in manifest:
            return f"is damaged: it lacks {field!r}"
        if not isinstance(manifest[field], kind) or isinstance(manifest[field], bool):
            return f"is damaged: its {field!r} is not of type {kind.__name__ if isinstance(kind, type) else 'number'}"
    if (manifest["stage"], manifest["key"]) != (stage, key):
        return f"belongs to {manifest['stage']}/{manifest['key']}"
    return _problem_inside(manifest)


def _problem_inside(manifest: dict[str, Any]) -> str | None:
    for name in manifest["inputs"].values():
        if not is_name(name):
            return "is damaged: an input is not a key"
    for field in ("files", "sources"):
        for one in manifest[field]:
            if not (isinstance(one, dict) and {"path", "bytes", "sha256"} <= one.keys() and isinstance(one["sha256"], str)):
                return f"is damaged: one of its {field} lacks its path, bytes or sha256"
            if type(one["bytes"]) is not int or not 0 <= one["bytes"] < 2**63:
                return f"is damaged: the file {one['path']!r} has no size"
    for file in manifest["files"]:
        if not _inside(file["path"]):
            return f"is damaged: the file {file['path']!r} is not a path in the artifact's folder"
    if len({file["path"] for file in manifest["files"]}) < len(manifest["files"]):
        return "is damaged: it lists a file twice"
    try:
        datetime.fromisoformat(manifest["created"])
    except ValueError as error:
        return f"is damaged: {error}"
    if not {"version", "revision"} <= manifest["code"].keys():
        return "is damaged: its 'code' lacks 'version' or 'revision'"
    return None


def _inside(path: Any) -> bool:
    """Whether `path` is a plain relative path that resolving does not change."""
    if not isinstance(path, str) or not path or "\0" in path or "\\" in path:
        return False
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and str(pure) == path and path not in (".", MANIFEST)
