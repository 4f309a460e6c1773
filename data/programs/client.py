"""The client of the sandbox's service: a Unix socket, one connection a dialogue.

The service is ours, but what it passes on is not: replies are read with a deadline and a limit, and checked.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from data.config import ProgramsConfig
from data.errors import MathQuarryError
from data.programs.sandbox import Result
from data.programs.service.limits import Limits
from data.programs.service.wire import LENGTH, MAX_REPLY, BrokenFrameError, content_length, pack, unpack

SLACK_SECONDS = 60.0
"""Waited beyond the time after which a healthy service has answered."""
RETRY_SECONDS = 0.02
"""Between two attempts to reach a service that others are calling too."""


def limits(config: ProgramsConfig) -> Limits:
    """The service's limits, as the config has them."""
    return Limits(
        seconds=config.seconds,
        memory_bytes=config.memory_mib * 2**20,
        output_bytes=config.output_bytes,
        value_characters=config.output_bytes,
        running=config.running,
        sessions=config.sessions,
    )


class ServiceSandbox:
    """A `Sandbox` at a Unix socket."""

    def __init__(self, address: Path, config: ProgramsConfig, end: Callable[[], None] | None = None) -> None:
        """`end` is called once by `close`. The limits are those the service was started with; `config` only tells how long to wait."""
        self.address = address
        self._end = end
        # Every other dialogue may have a block in the queue before ours, each as long as allowed.
        self._patience = config.seconds * (2 + config.sessions / config.running) + SLACK_SECONDS

    def run(self, program: str) -> Result:
        """See `Sandbox.run`."""
        with self.session() as session:
            return session.run(program, keep=False)

    def session(self) -> ServiceSession:
        """See `Sandbox.session`."""
        return ServiceSession(self.address, self._patience)

    def close(self) -> None:
        """See `Sandbox.close`. A service that somebody else started goes on."""
        end, self._end = self._end, None
        if end is not None:
            end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class ServiceSession:
    """A `Session` on a connection of its own."""

    def __init__(self, address: Path, patience: float) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience)
        try:
            self._connect(patience)
        except OSError as error:
            self._socket.close()
            raise MathQuarryError(f"no sandbox answers at {address} ({error}). Start it, or see programs.sandbox.") from None

    def _connect(self, patience: float) -> None:
        """Wait while the service has more callers than it has greeted: a Unix socket turns those away at once, whatever its timeout."""
        end = time.monotonic() + patience
        while True:
            try:
                self._socket.connect(str(self._address))
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(RETRY_SECONDS)

    def run(self, program: str, *, keep: bool = True) -> Result:
        """See `Session.run`. Without `keep` the dialogue's variables are forgotten afterwards, and nothing of it is left running."""
        try:
            request = pack({"program": program, "keep": keep})
        except BrokenFrameError as error:
            return Result("", error=f"the program is too long: {error}")
        try:
            self._socket.sendall(request)
            reply = unpack(self._read(content_length(self._read(LENGTH.size), MAX_REPLY)))
        except (OSError, BrokenFrameError) as error:
            raise MathQuarryError(f"the sandbox at {self._address} failed: {error or type(error).__name__}. Start it again.") from None
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
    """Text that can be encoded: JSON may carry half a surrogate pair."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else None
