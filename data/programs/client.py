"""The client of the sandbox's service: a Unix socket, one connection per dialogue.

The service is trusted, but the output it forwards is not: replies are read with a deadline and a size limit, and checked.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.interface import Result
from mathquarry.data.programs.service import health
from mathquarry.data.programs.service.limits import Limits
from mathquarry.data.programs.service.wire import LENGTH, MAX_REPLY, BrokenFrameError, content_length, pack, unpack

logger = logging.getLogger(__name__)

SLACK_SECONDS = 60.0
"""Extra wait beyond the time in which a healthy service answers."""
RETRY_SECONDS = 0.02
"""Wait between two attempts to reach a busy service."""
RETURN_SECONDS = 30.0
"""How long a service that others manage may take to come back."""


def limits(config: ProgramsConfig) -> Limits:
    """The service's limits according to the config."""
    return Limits(
        seconds=config.seconds,
        memory_bytes=config.memory_mib * 2**20,
        output_bytes=config.output_bytes,
        value_characters=config.output_bytes,
        running=config.running,
        sessions=config.sessions,
        held_bytes=config.held_mib * 2**20,
    )


Started = tuple[Path, Callable[[], None]]
"""The service's socket, and a function that ends the service."""


class ServiceSandbox:
    """A `Sandbox` at a Unix socket.

    If the service itself breaks while a program runs, the program's result is `killed`, and the service is restarted.
    """

    def __init__(
        self, address: Path, config: ProgramsConfig, start: Callable[[], Started] | None = None, *, end: Callable[[], None] | None = None
    ):
        """`start` restarts the service, `end` ends the one at `address`; a service that somebody else started has neither.

        The service was started with its own limits; `config` only determines how long to wait.
        """
        self.address = address
        self._start, self._end = start, end
        self._restart_lock = threading.Lock()
        self._starts, self._closed, self._reached = 0, False, False
        # Every other dialogue may have a block ahead of ours in the queue, each taking the full time limit.
        self._patience = config.seconds * (2 + config.sessions / config.running) + SLACK_SECONDS

    def run(self, program: str) -> Result:
        """See `Sandbox.run`."""
        with self.session() as session:
            return session.run(program, keep=False)

    def session(self) -> ServiceSession:
        """See `Sandbox.session`."""
        return ServiceSession(self)

    def close(self) -> None:
        """See `Sandbox.close`. A service that somebody else started keeps running."""
        self._closed = True
        end, self._end = self._end, None
        if end is not None:
            end()

    def connect(self) -> tuple[socket.socket, int]:
        """A connection, and the number of the service's start that it belongs to. Raises `MathQuarryError` if no service can be reached."""
        starts = self._starts
        try:
            connection = _connect(self.address, self._patience)
        except OSError as error:
            if self._start is None and not self._reached:
                raise MathQuarryError(f"no sandbox answers at {self.address} ({error}). Start it, or see programs.sandbox.") from None
            self.ensure_running(starts, error)
            starts = self._starts
            try:
                connection = _connect(self.address, self._patience)
            except OSError as again:
                raise MathQuarryError(f"no sandbox answers at {self.address} ({again}). Start it again.") from None
        self._reached = True
        return connection, starts

    def ensure_running(self, starts: int, error: Exception) -> None:
        """After `error` on a connection to the service numbered `starts`, make sure that a service runs; restart it if it is broken.

        Raises `MathQuarryError` if that fails.
        """
        with self._restart_lock:
            if self._closed:
                raise MathQuarryError(f"the sandbox at {self.address} was closed while a program ran.")
            if starts != self._starts or (not isinstance(error, TimeoutError) and self._works()):
                return
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if self._start is None:
                end = time.monotonic() + RETURN_SECONDS
                while time.monotonic() < end:
                    time.sleep(RETURN_SECONDS / 30)
                    if self._works():
                        return
                raise MathQuarryError(f"the sandbox at {self.address} failed ({words}) and did not come back. Start it again.")
            logger.warning("the sandbox failed (%s) and is being restarted.", words)
            if self._end is not None:
                self._end()
            self._end = None
            try:
                self.address, self._end = self._start()
            except MathQuarryError as again:
                raise MathQuarryError(f"the sandbox failed ({words}) and cannot be restarted: {again}") from None
            self._starts += 1

    def _works(self) -> bool:
        try:
            health.check(str(self.address))
        except (OSError, ValueError):
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _connect(address: Path, patience: float) -> socket.socket:
    """Wait while the service's backlog is full: a Unix socket rejects further callers at once, whatever its timeout."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(patience)
    end = time.monotonic() + patience
    while True:
        try:
            connection.connect(str(address))
            return connection
        except BlockingIOError:
            if time.monotonic() > end:
                connection.close()
                raise
            time.sleep(RETRY_SECONDS)
        except OSError:
            connection.close()
            raise


class ServiceSession:
    """A `Session` with its own connection."""

    def __init__(self, sandbox: ServiceSandbox) -> None:
        """Raises `MathQuarryError` when there is no service."""
        self._sandbox = sandbox
        self._socket, self._starts = sandbox.connect()
        self._broken = False

    def run(self, program: str, *, keep: bool = True) -> Result:
        """See `Session.run`. Without `keep`, the dialogue's variables are discarded afterwards, and none of its processes is left."""
        try:
            request = pack({"program": program, "keep": keep})
        except BrokenFrameError as error:
            return Result("", error=f"the program is too long: {error}")
        if self._broken:
            self._socket, self._starts = self._sandbox.connect()
            self._broken = False
        try:
            self._socket.sendall(request)
            reply = unpack(self._read(content_length(self._read(LENGTH.size), MAX_REPLY)))
        except (OSError, BrokenFrameError) as error:
            self._socket.close()
            self._broken = True
            self._sandbox.ensure_running(self._starts, error)
            return Result("", error="the program's process was lost: the sandbox broke while it ran", killed=True)
        if "refused" in reply:
            raise MathQuarryError(f"the sandbox refused a dialogue: {reply['refused']}. Raise programs.sessions, or open fewer.")
        return _result(reply)

    def close(self) -> None:
        """End the dialogue; its process is killed."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            part = self._socket.recv(count - len(content))
            if not part:
                raise BrokenFrameError("it closed the connection")
            content += part
        return bytes(content)


def _result(reply: dict[str, Any]) -> Result:
    return Result(
        stdout=_clean(reply.get("stdout")) or "",
        value=_clean(reply.get("value")),
        error=_clean(reply.get("error")),
        timed_out=reply.get("timed_out") is True,
        killed=reply.get("killed") is True,
        truncated=reply.get("truncated") is True,
    )


def _clean(text: Any) -> str | None:
    """Text that can be encoded: JSON may contain half a surrogate pair."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else None
