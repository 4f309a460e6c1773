"""Rights that a worker permanently gives up before it runs a program.

The enclosure (container or bubblewrap) isolates programs from the machine. This module isolates them from the service and from each other,
and exposes little of the kernel: only the system calls and arguments that computing needs (`calls`). A program cannot create processes,
threads or sockets, signal others, open files for writing, or execute another program.

1. seccomp, by libseccomp (https://github.com/seccomp/libseccomp);
2. not dumpable: no core file, no ptrace, and /proc/PID of service and workers belongs to root;
3. resource limits, as a second line of defense behind seccomp.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal

from .calls import CONDITIONS, PLAIN, Only

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE = 1, 4, 38, 41

OPEN_FILES = 64

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_MASKED_EQUAL = 7
_OPTIMIZE = 8


class _Comparison(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))


class Filter:
    """The seccomp filter, built once by the fork server and loaded by each worker."""

    def __init__(self) -> None:
        """Raises `OSError` when libseccomp is missing or refuses a rule."""
        self._lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._lib.seccomp_init.argtypes = [ctypes.c_uint32]
        self._lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
        self._lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
        self._lib.seccomp_load.argtypes = [ctypes.c_void_p]
        self._context = self._lib.seccomp_init(_ERRNO | errno.EPERM)
        if not self._context:
            raise OSError("seccomp_init failed")
        _check(self._lib.seccomp_attr_set(self._context, _OPTIMIZE, 2), "seccomp_attr_set")
        for name in PLAIN.split():
            self._allow(name, [])
        for name, conditions in CONDITIONS:
            self._allow(name, conditions)

    def _allow(self, name: str, conditions: list[Only]) -> None:
        number = self._lib.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # this architecture has no such call
        comparisons = [_Comparison(only.argument, _MASKED_EQUAL, only.mask, only.value) for only in conditions]
        array = (_Comparison * len(comparisons))(*comparisons)
        _check(self._lib.seccomp_rule_add_array(self._context, _ALLOW, number, len(comparisons), array), name)

    def load(self) -> None:
        """Load the filter permanently. Raises `OSError` when the kernel refuses."""
        _check(self._lib.seccomp_load(self._context), "seccomp_load")


def hide() -> None:
    """Make this process, and those it forks, unreadable and untraceable for others of the same user."""
    _prctl(PR_SET_DUMPABLE, 0)


def confine(rules: Filter, memory_bytes: int) -> None:
    """Confine this process permanently. Raises `OSError` or `ValueError` if any part fails."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_THP_DISABLE, 1)  # one page per fault, as `memory` assumes
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    rules.load()


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl {option}")


def _check(status: int, what: str) -> None:
    if status != 0:
        raise OSError(-status, os.strerror(-status), what)
