"""Who is making an artifact: a lock for the processes of one host, and a lease in the store for several hosts.

The lock is `flock(2)`, which the kernel drops with the process. A lease is a small file in the store that its holder renews; when the
holder's host dies it runs out. Whoever wants one writes a file of an own name and then looks for others: of two who do so at once at
least one sees the other, on every store where a listing shows what was written before it (folders, S3, Google Cloud Storage, Azure).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from data.errors import MathQuarryError
from data.files import disk_error

LEASE_SECONDS = 120.0
"""How long a lease holds without being renewed: it is renewed four times in that time."""
CLOCKS_DIFFER = 30.0
"""Seconds that the clocks of hosts that share a store may differ."""
COLLECT = "collect"
"""Purpose of a lease whose holder deletes the artifact."""
ATTEMPTS = 4
"""How often somebody tries again who met another that came at the same moment."""


class Held(BlockingIOError):
    """Somebody else holds the lock or the lease; the text says who, as far as is known."""


class Lease(NamedTuple):
    """What a lease's file says."""

    path: str
    until: float
    inputs: tuple[str, ...]
    purpose: str

    here: bool
    """Whether the holder is, or was, on this host, where the lock tells whether it lives."""


def place_of(locks: Path) -> str:
    """Where the locks of `locks` count: this host since its last start, and the folder, which its containers may share or not."""
    locks.mkdir(parents=True, exist_ok=True)
    try:
        host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        host = platform.node()
    folder = locks.stat()
    return f"{host}/{folder.st_dev}/{folder.st_ino}"


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


class Leases:
    """The leases of a store: `<root>/leases/<key>/<name>.json`, on any filesystem that fsspec knows."""

    def __init__(self, files: fsspec.AbstractFileSystem, root: str, locks: Path) -> None:
        self._files = files
        self._root = f"{root}/leases"
        self._locks = locks

    @contextmanager
    def hold(self, key: str, inputs: Mapping[str, str], purpose: str = "make") -> Iterator[Hold]:
        """Hold the lease of `key`, whose lock the caller holds. Raises `Held` when another host has it."""
        folder = f"{self._root}/{key}"
        content = {"place": place_of(self._locks), "host": platform.node(), "process": os.getpid(), "purpose": purpose}
        hold = Hold(self._files, f"{folder}/{uuid.uuid4().hex}.json", content | {"inputs": sorted(set(inputs.values()))})
        for attempt in range(ATTEMPTS):
            hold.write()
            others = [lease for lease in self._of(key) if lease.path.rsplit("/", 1)[-1] != hold.name]
            for lease in others:
                # The caller holds this host's lock: who had this lease here is dead.
                if lease.here or not _lives(lease):
                    _remove(self._files, lease.path)
            rivals = [lease for lease in others if not lease.here and _lives(lease)]
            if not rivals:
                break
            hold.remove()
            if attempt + 1 == ATTEMPTS:
                raise Held(f"another host (its lease ends in {max(0.0, rivals[0].until - time.time()):.0f} s unless it renews it)")
            time.sleep(random.uniform(0, 0.2))
        with hold.renewed():
            yield hold

    def collected(self, key: str) -> bool:
        """Whether somebody is deleting the artifact `key` now."""
        return any(lease.purpose == COLLECT and self.is_live(key, lease) for lease in self._of(key))

    def is_live(self, key: str, lease: Lease) -> bool:
        """Whether the holder of a lease of `key` is at work: on this host its lock tells, elsewhere the lease's end."""
        return is_locked(self._locks / key) if lease.here else _lives(lease)

    def live(self) -> list[tuple[str, Lease]]:
        """(key, lease) of all whose holders are at work."""
        keys = [path.rstrip("/").rsplit("/", 1)[-1] for path in self._list(self._root)]
        return [(key, lease) for key in keys for lease in self._of(key) if self.is_live(key, lease)]

    def _of(self, key: str) -> list[Lease]:
        found = []
        for path in self._list(f"{self._root}/{key}"):
            if not path.endswith(".json"):
                continue
            try:
                content = json.loads(self._files.cat_file(path))
                inputs = tuple(str(value) for value in content["inputs"])
                here = content["place"] == place_of(self._locks)
                found.append(Lease(path, float(content["until"]), inputs, str(content["purpose"]), here))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                # Being written just now, or damaged: whoever wrote it is taken to live for as long as a lease does.
                found.append(Lease(path, self._written(path) + LEASE_SECONDS, (), "make", False))
        return found

    def _written(self, path: str) -> float:
        try:
            return float(self._files.modified(path).timestamp())
        except (NotImplementedError, OSError):
            return time.time()

    def _list(self, folder: str) -> list[str]:
        self._files.invalidate_cache(folder)
        try:
            return [str(path) for path in self._files.ls(folder, detail=False) if str(path).rstrip("/") != folder.rstrip("/")]
        except (FileNotFoundError, NotADirectoryError):
            return []


class Hold:
    """A lease that is held: renewed from a thread of its own until the end of the block."""

    def __init__(self, files: fsspec.AbstractFileSystem, path: str, content: dict[str, Any]) -> None:
        self._files, self._path, self._content = files, path, content
        self.name = path.rsplit("/", 1)[-1]
        self._until = 0.0
        self._stop = threading.Event()

    def still(self) -> bool:
        """Whether the lease holds now, by this host's clock."""
        return time.time() < self._until

    def write(self) -> None:
        """Write the lease's file, with a new end. Raises `MathQuarryError` when the disk is full."""
        until = time.time() + LEASE_SECONDS
        folder = self._path.rsplit("/", 1)[0]
        for _ in range(ATTEMPTS):
            try:
                self._files.makedirs(folder, exist_ok=True)
                _write(self._files, self._path, json.dumps(self._content | {"until": until}).encode())
                self._until = until
                return
            except (FileNotFoundError, FileExistsError):  # another holder removed the empty folder just now
                continue
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise disk_error(error, Path(self._path)) from error
                raise
        raise MathQuarryError(f"{self._path} cannot be written: its folder is removed again and again. Run again.")

    def remove(self) -> None:
        """Give the lease back."""
        _remove(self._files, self._path)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease inside the block, and give it back at its end."""
        thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            with suppress(Exception):  # of any backend: what was made is published, and the lease runs out by itself
                self.remove()

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 4):
            try:
                self.write()
            except Exception:  # of any backend, which is away for a while: the next attempt may reach it, and `still` tells
                continue


def _lives(lease: Lease) -> bool:
    return time.time() < lease.until + CLOCKS_DIFFER


def _write(files: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    if isinstance(files, LocalFileSystem):
        # A kill must not leave half a lease, which would hold until it runs out.
        try:
            files.pipe_file(f"{path}.new", content)
            Path(f"{path}.new").replace(path)
        finally:
            Path(f"{path}.new").unlink(missing_ok=True)
    else:
        files.pipe_file(path, content)


def _remove(files: fsspec.AbstractFileSystem, path: str) -> None:
    try:
        files.rm_file(path)
    except FileNotFoundError:
        return
    with suppress(OSError, NotImplementedError):  # another lease is in it, or folders are not things there
        files.rmdir(path.rsplit("/", 1)[0])
