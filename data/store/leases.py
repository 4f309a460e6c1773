"""Leases in the store: they say which of several hosts is making an artifact.

A lease is a small file that its holder renews; it expires when the holder's host dies. In a store with conditional writes (S3), all hosts
compete for one file, and one gets it. In other stores each host writes a file under its own name and then looks for others. Of two hosts
that do so at once, at least one sees the other, provided that a listing shows all earlier writes (folders, Google Cloud Storage, Azure).
"""

from __future__ import annotations

import errno
import json
import os
import platform
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import disk_error
from mathquarry.data.store.conditional import Conditional
from mathquarry.data.store.locks import Held, is_locked

LEASE_SECONDS = 120.0
"""How long a lease is valid without renewal. It is renewed four times in that period."""
CLOCKS_DIFFER = 30.0
"""Seconds by which the clocks of hosts that share a store may differ."""
COLLECT = "collect"
"""Purpose of a lease whose holder deletes the artifact."""
ATTEMPTS = 4
"""Attempts to take a lease when another host tries at the same moment."""
TURN = "turn.json"
"""File name of an artifact's lease in a store with conditional writes."""


class Lease(NamedTuple):
    """The content of a lease's file."""

    path: str
    until: float
    inputs: tuple[str, ...]
    purpose: str

    here: bool
    """Whether the holder is, or was, on this host. There, the lock tells whether it is alive."""


def place_of(locks: Path) -> str:
    """Return the scope of the locks in `locks`: this host since its last boot, and the folder, which containers may or may not share."""
    locks.mkdir(parents=True, exist_ok=True)
    try:
        host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        host = platform.node()
    folder = locks.stat()
    return f"{host}/{folder.st_dev}/{folder.st_ino}"


class Leases:
    """The leases of a store: `<root>/leases/<key>/<name>.json`, on any filesystem that fsspec knows."""

    def __init__(self, files: fsspec.AbstractFileSystem, root: str, locks: Path) -> None:
        self._files = files
        self._root = f"{root}/leases"
        self._locks = locks
        self._conditional: Conditional | None = None
        self._asked = False

    @contextmanager
    def hold(self, key: str, inputs: Mapping[str, str], purpose: str = "make") -> Iterator[Hold]:
        """Hold the lease of `key`, whose lock the caller holds. Raises `Held` when another host has it."""
        folder = f"{self._root}/{key}"
        content = {"place": place_of(self._locks), "host": platform.node(), "process": os.getpid(), "purpose": purpose}
        content |= {"inputs": sorted(set(inputs.values())), "name": uuid.uuid4().hex}
        if conditional := self._conditions():
            turn = Turn(self._files, conditional, f"{folder}/{TURN}", content)
            turn.claim(self._lease)
            with turn.renewed():
                yield turn
            return
        hold = Hold(self._files, f"{folder}/{content['name']}.json", content)
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
        """Whether the holder of a lease of `key` is at work. On this host the lock tells, elsewhere the lease's expiry."""
        return is_locked(self._locks / key) if lease.here else _lives(lease)

    def live(self) -> list[tuple[str, Lease]]:
        """(key, lease) of every lease whose holder is at work."""
        keys = [path.rstrip("/").rsplit("/", 1)[-1] for path in self._list(self._root)]
        return [(key, lease) for key in keys for lease in self._of(key) if self.is_live(key, lease)]

    def _conditions(self) -> Conditional | None:
        """The store's conditional writes, tested once."""
        if not self._asked:
            self._conditional = Conditional.of(self._files, self._root)
            self._asked = True
        return self._conditional

    def _of(self, key: str) -> list[Lease]:
        found = []
        for path in self._list(f"{self._root}/{key}"):
            if path.endswith(".json"):
                with suppress(FileNotFoundError):
                    found.append(self._lease(path, self._files.cat_file(path)))
        return found

    def _lease(self, path: str, content: bytes) -> Lease:
        try:
            said = json.loads(content)
            inputs = tuple(str(value) for value in said["inputs"])
            return Lease(path, float(said["until"]), inputs, str(said["purpose"]), said["place"] == place_of(self._locks))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # It is being written right now, or it is damaged: assume that its writer lives for the duration of a lease.
            return Lease(path, self._written(path) + LEASE_SECONDS, (), "make", False)

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
    """A lease that is held. A separate thread renews it until the end of the block."""

    def __init__(self, files: fsspec.AbstractFileSystem, path: str, content: dict[str, Any]) -> None:
        self._files, self._path, self._content = files, path, content
        self.name = path.rsplit("/", 1)[-1]
        self._until = 0.0
        self._stop = threading.Event()

    def still(self) -> bool:
        """Whether the lease is valid now, by this host's clock."""
        return time.time() < self._until

    def write(self) -> None:
        """Write the lease's file with a new expiry. Raises `MathQuarryError` when the disk is full."""
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
        raise MathQuarryError(f"{self._path} cannot be written: its folder keeps disappearing. Run again.")

    def remove(self) -> None:
        """Release the lease."""
        _remove(self._files, self._path)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease inside the block, and release it at the end."""
        thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            with suppress(Exception):  # of any backend: the artifact is published, and the lease expires by itself
                self.remove()

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 4):
            try:
                self.write()
            except Exception:  # of any backend that is unreachable for a while: the next attempt may succeed, and `still` tells
                continue


class Turn(Hold):
    """A lease in a store with conditional writes: one file. Only its holder can renew it, and only one of many hosts can take it over."""

    def __init__(self, files: fsspec.AbstractFileSystem, conditional: Conditional, path: str, content: dict[str, Any]) -> None:
        super().__init__(files, path, content)
        self._conditional = conditional
        self._version: str | None = None
        self._renewing = threading.Lock()

    def claim(self, read: Callable[[str, bytes], Lease]) -> None:
        """Take the lease, or take it over from a dead holder. Raises `Held` when another host has it."""
        for _ in range(ATTEMPTS):
            until, content = self._fresh()
            self._version = self._conditional.create(self._path, content)
            if self._version is None and (found := self._conditional.read(self._path)) is not None:
                lease = read(self._path, found[0])
                # The caller holds this host's lock: who had this lease here is dead.
                if not lease.here and _lives(lease):
                    raise Held(f"another host (its lease ends in {max(0.0, lease.until - time.time()):.0f} s unless it renews it)")
                self._version = self._conditional.replace(self._path, content, found[1])
            if self._version is not None:
                self._until = until
                return
        raise Held("another host, which took the lease just now,")

    def still(self) -> bool:
        """Whether the lease is valid now. Asks the store by renewing it."""
        with suppress(OSError):
            self.write()
        return super().still()

    def write(self) -> None:
        """Renew the lease. When another host has it, it is lost for good."""
        with self._renewing:
            until, content = self._fresh()
            if self._version is not None:
                self._version = self._conditional.replace(self._path, content, self._version)
                self._until = until if self._version else 0.0

    def remove(self) -> None:
        """Release the lease, unless another host has it."""
        if self._version is not None:
            self._conditional.delete(self._path, self._version)

    def _fresh(self) -> tuple[float, bytes]:
        until = time.time() + LEASE_SECONDS
        return until, json.dumps(self._content | {"until": until}).encode()


def _lives(lease: Lease) -> bool:
    return time.time() < lease.until + CLOCKS_DIFFER


def _write(files: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    if isinstance(files, LocalFileSystem):
        # A kill must not leave half a lease, which would block others until it expires.
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
    with suppress(OSError, NotImplementedError):  # the folder holds another lease, or the store has no folders
        files.rmdir(path.rsplit("/", 1)[0])
