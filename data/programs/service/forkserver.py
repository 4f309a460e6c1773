"""The process that forks workers. It imports numpy and sympy once, so a worker takes milliseconds to start.

Protocol on its socket (SOCK_SEQPACKET): the server requests a worker with one message that carries two file descriptors, the worker's
control socket and its output. The answer is `forked PID` with a pidfd, or `failed ERRNO`. When a worker has ended and been waited for, the
fork server sends `exited PID STATUS`.
"""

from __future__ import annotations

import gc
import os
import random
import selectors
import socket
from typing import NoReturn

from .confine import Filter, confine, hide
from .limits import Limits
from .worker import CONTROL, serve

READY = b"ready"
LAST_DESCRIPTOR = 1 << 20


def run(channel: socket.socket, limits: Limits) -> NoReturn:
    """Fork workers until the server closes `channel`. Standard input and output must lead nowhere."""
    _import_libraries()
    hide()
    rules = Filter()
    gc.collect()
    gc.freeze()  # the garbage collector would write to pages that all workers share
    channel.send(READY)
    selector = selectors.DefaultSelector()
    selector.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is channel:
                _fork(channel, selector, rules, limits)
            else:
                _wait(channel, selector, key)


def _fork(channel: socket.socket, selector: selectors.BaseSelector, rules: Filter, limits: Limits) -> None:
    message, descriptors, _, _ = socket.recv_fds(channel, 64, 2)
    if not message:
        os._exit(0)
    try:
        pid = os.fork()
        if pid == 0:
            _become_worker(descriptors[0], descriptors[1], rules, limits)
        pidfd = os.pidfd_open(pid)
    except OSError as error:  # no process or descriptor left: only this worker fails
        channel.send(b"failed %d" % (error.errno or 0))
        return
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    selector.register(pidfd, selectors.EVENT_READ, pid)
    socket.send_fds(channel, [b"forked %d" % pid], [pidfd])


def _wait(channel: socket.socket, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    _, status = os.waitpid(key.data, 0)
    selector.unregister(key.fileobj)
    os.close(key.fd)
    channel.send(b"exited %d %d" % (key.data, os.waitstatus_to_exitcode(status)))


def _become_worker(control: int, output: int, rules: Filter, limits: Limits) -> NoReturn:
    """In the child: keep only the two descriptors, confine, serve. Never returns to the fork server's loop."""
    try:
        os.dup2(output, 1)
        os.dup2(0, 2)  # standard error belongs to the service, and might go to a file outside
        os.dup2(control, CONTROL)
        os.closerange(CONTROL + 1, LAST_DESCRIPTOR)
        random.seed(0)  # so that a dialogue always gives the same output
        confine(rules, limits.memory_bytes)
        serve(limits.value_characters)
    finally:
        os._exit(1)


def _import_libraries() -> None:
    """Import the libraries for programs, and use them once to fill their tables and caches."""
    import collections
    import fractions
    import functools
    import itertools
    import math
    import statistics

    import numpy
    import sympy

    x = sympy.Symbol("x")
    sympy.solve(x**2 - 2, x)
    sympy.simplify(sympy.sympify("(x**2 - 1)/(x - 1)"))
    numpy.linalg.solve(numpy.eye(2), numpy.ones(2))
    numpy.random.seed(0)
    numpy.set_printoptions(legacy="1.25")  # a number is shown as 0.5, as models learned it, not as np.float64(0.5)
    assert all((collections, fractions, functools, itertools, math, statistics))
