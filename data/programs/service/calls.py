"""The system calls that a program may make, and with which arguments. Everything else fails with "Operation not permitted".

Each call is listed because computing needs it, and its arguments are limited to what computing needs; docs/sandbox.md has the same table
with the reasons. A call that takes a command, flags or another process's id is never in `PLAIN`.

Constants are shared by x86-64 and 64-bit ARM, or come from the standard library. The filter compares 64 bits, but the kernel reads most
arguments as 32. Conditions on such arguments check only the lower half, so that the upper half can neither hide nor corrupt a value.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

PLAIN = """
    read readv pread64 write writev pwrite64 lseek close dup dup2 pipe poll ppoll select pselect6
    fstat stat lstat newfstatat statx access faccessat faccessat2 getdents64 readlink readlinkat getcwd chdir umask
    munmap mprotect mremap brk
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending sigaltstack pause alarm setitimer getitimer restart_syscall
    nanosleep gettimeofday time times
    getpid getppid gettid getuid geteuid getgid getegid getgroups getpgrp getrusage getrlimit getcpu
    sched_yield uname sysinfo exit exit_group
"""
"""Calls that affect only the process itself and its own descriptors, whatever their arguments."""


class Only(NamedTuple):
    """A call is allowed when, for this argument (counted from 0), `argument & mask == value`."""

    argument: int
    mask: int
    value: int


LOWER, WHOLE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def _is(argument: int, value: int) -> Only:
    """A 32-bit argument with exactly this value."""
    return Only(argument, LOWER, value)


def _flags(argument: int, allowed: int, required: int = 0) -> Only:
    """32-bit flags: only `allowed` ones, and all of `required`."""
    return Only(argument, LOWER & ~allowed | required, required)


_OPEN = os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK | 0o100000 | os.O_PATH
"""The allowed flags of `open`: none that writes, creates or signals. The number is x86-64's O_LARGEFILE, which some libraries add."""
_STATUS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | 0o100000 | os.O_CLOEXEC
_MAP_PRIVATE = 0x2
_MAP = _MAP_PRIVATE | 0x10 | 0x20 | 0x800 | 0x1000 | 0x4000 | 0x20000 | 0x100000
"""MAP_FIXED, ANONYMOUS, DENYWRITE, EXECUTABLE, NORESERVE, STACK, FIXED_NOREPLACE."""
_FUTEX_PRIVATE, _FUTEX_CLOCK_REALTIME = 128, 256
_F_GETPIPE_SZ = 1032
_TCGETS = 0x5401

CONDITIONS: list[tuple[str, list[Only]]] = [
    ("open", [_flags(1, _OPEN)]),
    ("openat", [_flags(2, _OPEN)]),
    *(("fcntl", [_is(1, command)]) for command in (fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)),
    *(("fcntl", [_is(1, command)]) for command in (fcntl.F_DUPFD_CLOEXEC, _F_GETPIPE_SZ)),
    ("fcntl", [_is(1, fcntl.F_SETFL), _flags(2, _STATUS)]),
    ("dup3", [_flags(2, os.O_CLOEXEC)]),
    ("pipe2", [_flags(1, os.O_CLOEXEC | os.O_NONBLOCK)]),
    ("close_range", [_is(2, 0)]),
    ("ioctl", [_is(1, _TCGETS)]),
    # MAP_PRIVATE but not MAP_SHARED, whose memory would not count as the program's own; no huge or locked pages.
    ("mmap", [_flags(3, _MAP, required=_MAP_PRIVATE)]),
    # MADV_NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE
    *(("madvise", [_is(2, advice)]) for advice in (0, 1, 2, 3, 4, 8, 14, 15)),
    # WAIT, WAKE, WAIT_BITSET, WAKE_BITSET
    *(
        ("futex", [_flags(1, operation | _FUTEX_PRIVATE | _FUTEX_CLOCK_REALTIME, operation | _FUTEX_PRIVATE)])
        for operation in (0, 1, 9, 10)
    ),
    # Clocks 0 to 7: no other process's CPU time, no device clocks, no alarms that wake the machine.
    *((call, [_flags(0, 7)]) for call in ("clock_gettime", "clock_getres", "clock_nanosleep")),
    *((call, [_is(0, 0)]) for call in ("getpgid", "getsid", "sched_getaffinity")),
    ("prlimit64", [_is(0, 0), Only(2, WHOLE, 0)]),
    ("getrandom", [_flags(2, os.GRND_NONBLOCK | 4)]),
]
"""Calls with conditions. An entry matches if all of its conditions hold; a call may have several entries."""
