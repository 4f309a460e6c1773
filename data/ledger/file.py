"""Opens the ledger's file for one writer at a time, with a clear error if that fails."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from mathquarry.data.errors import MathQuarryError


@contextmanager
def opened(path: Path, read_only: bool, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection, when it is this process's turn. Raises `MathQuarryError` if the file is missing, damaged, or locked for too long."""
    if read_only and not path.exists():
        raise MathQuarryError(f"{path} does not exist. `mathquarry ledger sync` rebuilds it from the artifacts.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _turn(path, read_only, patience), _told(path):
        connection = _open_with_retries(path, read_only, patience)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def whole(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction: after an error inside, the connection closes without a commit and the ledger is as it was."""
    connection.execute("begin")
    yield
    connection.execute("commit")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn DuckDB's errors into `MathQuarryError`, with advice."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if path.is_dir() or (path.is_symlink() and not path.exists()):
            advice = "It is not a file: move it away and run `mathquarry ledger sync`."
        elif "No space left" in text or "Disk quota" in text or "Could not write" in text:
            advice = "Free some space, then run `mathquarry ledger sync`."
        elif "Permission denied" in text or "Read-only file system" in text:
            advice = "Get permission to write it, or use another store."
        else:
            advice = "Nothing is lost: delete it, with the `.wal` file beside it, and run `mathquarry ledger sync` to rebuild it."
        raise MathQuarryError(f"{path} cannot be used: {text} {advice}") from error


@contextmanager
def _turn(path: Path, read_only: bool, patience: float) -> Iterator[None]:
    """Wait until no other MathQuarry process has the ledger open (to write), or until none writes to it (to read).

    DuckDB's own lock is not enough. With three processes that each opened, wrote and closed one file 300 times, about half of the trials
    of DuckDB 2.0.0 lost a row or found a file that was not a database.
    """
    try:
        file = os.open(f"{path}.lock", os.O_RDONLY | os.O_CREAT, 0o666)
    except OSError:
        if not read_only:
            raise
        yield  # a store that cannot be written to, such as a read-only mount
        return
    try:
        deadline = time.monotonic() + patience
        for wait in _pauses():
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _locked(path, patience) from None
                time.sleep(wait)
        yield
    finally:
        os.close(file)


def _open_with_retries(path: Path, read_only: bool, patience: float) -> duckdb.DuckDBPyConnection:
    """Wait while another program has the file open."""
    deadline = time.monotonic() + patience
    for wait in _pauses():
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise _locked(path, patience) from error
            time.sleep(wait)
    raise AssertionError("pauses never end")


def _pauses() -> Iterator[float]:
    """Random seconds between attempts, so that waiting processes do not collide again."""
    wait = 0.002
    while True:
        yield random.uniform(0, wait)
        wait = min(2 * wait, 0.25)


def _locked(path: Path, patience: float) -> MathQuarryError:
    return MathQuarryError(
        f"{path} has been locked by another process for {patience:.0f} s. Nothing is lost: `mathquarry ledger sync` adds the rows later."
    )
