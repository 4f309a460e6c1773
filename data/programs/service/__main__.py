"""Start the service: `python -m service LIMITS [--with-parent] [--proc N] (--socket PATH | --descriptor N)`. It prints `ready`, once.

LIMITS is JSON (`Limits`). The socket is created at PATH, or inherited as an open, listening file descriptor. With `--with-parent` the
service ends when its standard input closes, that is, when the process at the other end is gone. The descriptor N of `--proc` is the
host's /proc, for an enclosure without one.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from pathlib import Path
from typing import NoReturn

from . import forkserver, server
from .confine import hide
from .limits import Limits
from .memory import Memory


def main(arguments: list[str]) -> None:
    """Start the fork server, wait until it is ready, then listen."""
    limits, with_parent = Limits.from_json(arguments[0]), arguments[1] == "--with-parent"
    os.umask(0)
    _raise_descriptors(limits.descriptors)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _fork_server(theirs, limits)
    theirs.close()
    hide()
    if ours.recv(64) != forkserver.READY:
        sys.exit(1)  # it has printed the reason
    proc = int(arguments[arguments.index("--proc") + 1]) if "--proc" in arguments else None
    asyncio.run(server.serve(ours, _listener(*arguments[-2:]), limits, Memory(proc, limits.memory_bytes), with_parent))


def _raise_descriptors(needed: int) -> None:
    """Raise the limit on open files, which is often 1,024 by default. Ends the process if the system does not allow as many as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"{needed} open files are needed, and the system allows {hard} (`ulimit -Hn`): lower programs.sessions")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _fork_server(channel: socket.socket, limits: Limits) -> NoReturn:
    """Run the fork server. It keeps standard error (for a failed start) and the channel; other streams lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    kept = os.dup2(channel.detach(), 3)
    os.closerange(4, forkserver.LAST_DESCRIPTOR)
    forkserver.run(socket.socket(fileno=kept), limits)


def _listener(kind: str, where: str) -> socket.socket:
    if kind == "--descriptor":
        return socket.socket(fileno=int(where))
    listener = socket.socket(socket.AF_UNIX)
    Path(where).unlink(missing_ok=True)  # left by a service that was killed
    listener.bind(where)
    listener.listen(1024)
    return listener


if __name__ == "__main__":
    main(sys.argv[1:])
