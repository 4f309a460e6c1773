"""A sandbox service that this process starts and that ends with it. bubblewrap and Docker differ only in the command."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import IO

from mathquarry.data.errors import MathQuarryError

END_SECONDS = 20.0
"""Time for a service to end by itself."""


class ServiceProcess:
    """The process, and a pipe. When the pipe closes, the service ends too, even if this process was killed."""

    def __init__(
        self,
        command: Sequence[str],
        errors: Path,
        *,
        environment: dict[str, str] | None = None,
        descriptors: Sequence[int] = (),
        remedy: str,
    ) -> None:
        """Start and wait until the service is ready. If it does not start, raises `MathQuarryError` with its output and `remedy`."""
        self._ended = threading.Event()

        def start() -> subprocess.Popen[bytes]:
            with errors.open("wb") as stream:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    env=environment,
                    pass_fds=descriptors,
                    cwd="/",
                    start_new_session=True,  # this process handles Ctrl-C
                )

        self._process = _from_lasting_thread(start, self._ended)
        if _pipe(self._process.stdout).readline() != b"ready\n":
            self.end()
            words = "; ".join(errors.read_text(errors="replace").strip().splitlines()[-3:])
            raise MathQuarryError(f"the sandbox did not start: {words or f'exit status {self._process.returncode}'}. {remedy}")

    def end(self) -> None:
        """Let the service end, or kill it."""
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()
        self._ended.set()


def _from_lasting_thread(start: Callable[[], subprocess.Popen[bytes]], ended: threading.Event) -> subprocess.Popen[bytes]:
    """Start a process from a thread that lives as long as the process: `bwrap --die-with-parent` dies with its starting *thread*."""
    started: Future[subprocess.Popen[bytes]] = Future()

    def live() -> None:
        try:
            started.set_result(start())
        except BaseException as error:
            started.set_exception(error)
            return
        ended.wait()

    threading.Thread(target=live, name="sandbox", daemon=True).start()
    return started.result()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
