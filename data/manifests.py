"""Reading a manifest, which others may have written: its names and paths are data and never lead out of the artifact's folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from data.errors import MathQuarryError
from data.files import read_json

MANIFEST = "manifest.json"
SCHEMA = 1
FIELDS = ("stage", "key", "inputs", "files", "created")

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}", re.ASCII)


def check_name(name: str) -> str:
    """`name`, which is a stage or a key and thus one part of a path. Raises `MathQuarryError` for anything else."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MathQuarryError(f"{name!r} is no stage or key of an artifact: letters, digits, - and _ only.")
    return name


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the artifact in `folder`, which ends in its stage and key.

    Raises `MathQuarryError` naming the file when it is not JSON, of another schema, that of another artifact, or names a file outside
    the folder.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    problem = _problem(manifest, folder.parent.name, folder.name)
    if problem:
        raise MathQuarryError(f"{path} {problem}. Put back a whole copy, or delete its folder and make it again with `mathquarry run`.")
    return manifest


def _problem(manifest: Any, stage: str, key: str) -> str | None:
    if not isinstance(manifest, dict):
        return "is damaged: it is no JSON object"
    for field in FIELDS:
        if field not in manifest:
            return f"is damaged: it lacks {field!r}"
    if manifest.get("schema", SCHEMA) != SCHEMA:
        return f"has schema {manifest['schema']!r}, and this version of MathQuarry reads {SCHEMA}"
    if (manifest["stage"], manifest["key"]) != (stage, key):
        return f"is that of {manifest['stage']}/{manifest['key']}"
    inputs, files = manifest["inputs"], manifest["files"]
    if not isinstance(inputs, dict) or not all(isinstance(value, str) and _NAME.fullmatch(value) for value in inputs.values()):
        return "is damaged: an input is no key"
    if not isinstance(files, list) or not all(isinstance(file, dict) and {"path", "bytes", "sha256"} <= file.keys() for file in files):
        return "is damaged: a file lacks its path, bytes or sha256"
    for file in files:
        if not _inside(file["path"]):
            return f"is damaged: the file {file['path']!r} is not a path in the artifact's folder"
        if type(file["bytes"]) is not int or file["bytes"] < 0:
            return f"is damaged: the file {file['path']!r} has no size"
    return None


def _inside(path: Any) -> bool:
    """Whether `path` is a plain relative path, the same however often it is resolved."""
    if not isinstance(path, str) or not path or "\0" in path or "\\" in path:
        return False
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and str(pure) == path and path not in (".", MANIFEST)
