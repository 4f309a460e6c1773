"""Estimates a worker's unshared memory from the server.

A worker starts with every page of the fork server shared. A page becomes its own through a page fault, so it cannot own more pages than it
had faults, nor more than it has anonymous pages: the smaller number is an upper bound. Huge pages, where one fault would make many pages,
are off for workers (`confine`). Every user can read both numbers in /proc; only root could read more exact ones.
"""

from __future__ import annotations

import os
import re

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """Reads /proc. Assumes `most` bytes for a worker whose numbers cannot be read."""

    def __init__(self, proc: int | None, most: int) -> None:
        """`proc` is a descriptor of the host's /proc, for enclosures without one; otherwise the service's own is read."""
        self._host, self._most = proc is not None, most
        self._proc = proc
        if proc is None and os.path.isdir("/proc/self"):
            self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)

    def held(self, pid: int, pidfd: int) -> int:
        """Upper bound in bytes of the process's unshared memory. `pid` is its id in the service's namespace."""
        try:
            folder = self._entry(f"self/fdinfo/{pidfd}", r"^Pid:\s+(\d+)") if self._host else pid
            anonymous = self._entry(f"{folder}/status", r"^RssAnon:\s+(\d+)") + self._entry(f"{folder}/status", r"^VmSwap:\s+(\d+)")
            # The name in parentheses may contain anything; then come the state, six numbers, and the faults: minor, children's, major.
            faults = self._entry(f"{folder}/stat", r"\) \S(?: -?\d+){6} (\d+)") + self._entry(f"{folder}/stat", r"\) \S(?: -?\d+){8} (\d+)")
        except (OSError, ValueError):
            return self._most
        return min(anonymous * 1024, faults * _PAGE, self._most)

    def _entry(self, path: str, pattern: str) -> int:
        if self._proc is None:
            raise OSError("there is no /proc")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            found = re.search(pattern, os.read(descriptor, 1 << 16).decode("utf-8", "replace"), re.MULTILINE)
        finally:
            os.close(descriptor)
        if found is None:
            raise ValueError(path)
        return int(found[1])
