"""Writes files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError

_HERE, _EXCHANGE = -100, 2
"""`AT_FDCWD` and `RENAME_EXCHANGE` of renameat2(2)."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without an error, sync it to disk and rename it to `path`.

    Raises `MathQuarryError` when the disk is full. On any error the temporary file is removed and `path` stays unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync_path(temporary)
        temporary.replace(path)
        sync_path(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def disk_error(error: OSError, path: Path) -> MathQuarryError:
    """The message for a write that failed, naming the file and the reason."""
    return MathQuarryError(f"cannot write {path}: {error.strerror or error}. Free some space or choose another store, then run again.")


def sync_path(path: Path) -> None:
    """Flush a file or a directory entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(new: Path, place: Path) -> None:
    """Move the folder `new` to `place`. An existing folder there moves to where `new` was, in one step, so `place` always exists.

    On a file system without an atomic exchange this takes two steps, and the old folder is restored if the second fails.
    """
    try:
        # This also replaces an empty folder.
        new.rename(place)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(_HERE, os.fsencode(new), _HERE, os.fsencode(place), _EXCHANGE) == 0:
        return
    aside = new.with_name(f"{new.name}.old")
    place.rename(aside)
    try:
        new.rename(place)
    except OSError:
        aside.rename(place)
        raise
    aside.rename(new)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def write_json_lines(path: Path, records: Iterable[Any]) -> int:
    """Write one JSON value per line, atomically. Returns the number of lines."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises `MathQuarryError` naming the file when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MathQuarryError(f"{path} does not exist.") from None
    except (ValueError, RecursionError) as error:  # not JSON, not even text, or too deep
        raise MathQuarryError(f"{path} is not JSON: {error}.") from None
    except OSError as error:
        raise MathQuarryError(f"{path} cannot be read: {error.strerror or error}.") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
