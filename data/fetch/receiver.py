"""The parts of a transfer: a remote file, its receiver, and the errors it can raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mathquarry.data.errors import MathQuarryError


class RemoteError(MathQuarryError):
    """A URL that cannot be fetched. The message names it."""


class NotThere(RemoteError):
    """The server says that there is no such file (404 or 410)."""


class RemoteChanged(RemoteError):
    """The file behind a URL changed since earlier bytes were read."""


class RangeIgnored(RemoteError):
    """The server sends only whole files."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server's description of a file: size in bytes (None if unknown), and version, an ETag or else a date ("" if unknown)."""

    size: int | None
    version: str


class Receiver(Protocol):
    """The destination of a transfer's bytes."""

    start: int
    """The first wanted byte."""
    stop: int | None
    """The end of the transfer, exclusive; None means the file's end."""
    position: int
    """The next byte."""
    version: str
    """Version of the bytes received so far; "" before the first, or if the server names none."""

    def begin(self, remote: Remote) -> None:
        """The server answered, and its bytes begin at `position`."""

    def restart(self) -> None:
        """Discard the received bytes; `position` goes back to `start`. Raises if starting over is of no use."""

    def write(self, block: bytes) -> None:
        """Take the next bytes."""


class Buffer:
    """Receives a range in memory, only of the given version if there is one."""

    def __init__(self, url: str, start: int, stop: int, version: str = "") -> None:
        self._url, self._pinned = url, bool(version)
        self.start, self.position, self.version = start, start, version
        self.stop: int | None = stop
        self.data: list[bytes] = []

    def begin(self, remote: Remote) -> None:
        """Later attempts must continue with the same version."""
        self.version = remote.version

    def restart(self) -> None:
        """Start over, unless the caller asked for a version."""
        if self._pinned:
            raise RemoteChanged(f"{self._url} changed while it was read. Run again.")
        self.position, self.version = self.start, ""
        self.data.clear()

    def write(self, block: bytes) -> None:
        """Append."""
        self.data.append(block)
        self.position += len(block)

    def take(self) -> bytes:
        """All bytes, once."""
        data = b"".join(self.data)
        self.data.clear()
        return data
