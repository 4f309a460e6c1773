"""The lock of a work folder, for the processes of one host: `flock(2)`, which the kernel releases when the process ends."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Held(BlockingIOError):
    """Another process or host holds the lock or the lease; the text says who, if known."""


@contextmanager
def exclusive(room: Path) -> Iterator[None]:
    """Hold the lock of a work folder. Raises `Held` when another process of this host holds it."""
    while True:
        try:
            room.mkdir(parents=True, exist_ok=True)
            lock = (room / "lock").open("a+")
        except FileNotFoundError:  # removed by its last holder just now
            continue
        except FileExistsError:
            if room.is_file():
                raise
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held("another process") from None
            try:
                same = os.path.samestat(os.fstat(lock.fileno()), (room / "lock").stat())
            except FileNotFoundError:
                same = False
            if same:
                yield
                return


def clear(room: Path) -> None:
    """Delete a work folder whose lock the caller holds.

    The lock goes last: once it is gone, another process can hold a new one and work in the folder, which then stays.
    """
    lock = room / "lock"
    with suppress(OSError):  # what cannot be deleted, and what another process has made its own, stays for `ledger gc`
        for entry in room.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry != lock:
                entry.unlink()
        lock.unlink()
        room.rmdir()


def is_locked(room: Path) -> bool:
    """Whether a process of this host holds the lock of a work folder."""
    try:
        with (room / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False
