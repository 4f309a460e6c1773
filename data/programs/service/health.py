"""Checks that the service at a Unix socket runs programs: `python -m service.health PATH` exits with status 0 if it does.

It runs a program, since a service that accepts connections may still be unable to serve them.
"""

from __future__ import annotations

import socket
import sys

from .wire import LENGTH, MAX_REPLY, content_length, pack, unpack

SECONDS = 20.0


def check(path: str) -> None:
    """Raises `OSError` or `ValueError` if the answer is missing or wrong."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(path)
        connection.sendall(pack({"program": "6 * 7", "keep": False, "health": True}))
        with connection.makefile("rb") as stream:
            answer = unpack(stream.read(content_length(stream.read(LENGTH.size).ljust(LENGTH.size, b"\0"), MAX_REPLY)))
    if answer.get("value") != "42":
        raise ValueError(f"the service answers {answer}")


if __name__ == "__main__":
    check(sys.argv[1])
