"""Extraction within limits: a page that takes too long or too much memory loses only its own text."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import mathquarry
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.extract.html import Extracted
from mathquarry.data.extract.worker import LENGTH

START_SECONDS = 60.0
"""Time for a new process to import what it needs."""


class ExtractionStopped(Exception):
    """A page exceeded a limit, or its extraction failed; the message says which."""


_PIPE_BYTES = 1 << 20
"""Largest pipe that an unprivileged user may set. Most pages fit, and are sent at once."""


class Extractor:
    """Extracts pages in a separate process, which is killed at a limit and restarted for the next page.

    Use it as a context manager, or close it. It handles one page at a time and is not thread-safe.
    """

    def __init__(self, seconds: float, memory_bytes: int, *, careful: bool = True) -> None:
        self._seconds, self._memory_bytes = seconds, memory_bytes
        self.careful = careful
        self._process: subprocess.Popen[bytes] | None = None

    def extract(self, html: str) -> Extracted:
        """The main text of a page, by `mathquarry.data.extract.html` or `mathquarry.data.extract.plain`. Raises `ExtractionStopped` at a
        limit or a failure."""
        process = self._running()
        content = html.encode("utf-8", "replace")
        deadline = time.monotonic() + self._seconds
        try:
            process.stdin.write(LENGTH.pack(len(content)) + content)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            reply = self._reply(process, deadline)
        except TimeoutError:
            self.close()
            raise ExtractionStopped(f"extraction took longer than {self._seconds:g} s") from None
        except (BrokenPipeError, EOFError):
            self.close()
            raise ExtractionStopped(
                f"the extracting process died, most likely at its limit of {self._memory_bytes / 2**30:.1f} GiB of memory"
            ) from None
        except BaseException:
            self.close()  # its pipes are in an unknown state
            raise
        line, _, text = reply.partition(b"\n")
        found = json.loads(line)
        if "error" in found:
            raise ExtractionStopped(f"extraction failed: {found['error']}")
        return Extracted(text=text.decode("utf-8", "surrogatepass"), **found)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            root = str(Path(mathquarry.__file__).parents[1])
            path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "mathquarry.data.extract.worker",
                    str(self._seconds),
                    str(self._memory_bytes),
                    "careful" if self.careful else "plain",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
            _widen(self._process.stdin, self._process.stdout)
            try:
                self._reply(self._process, time.monotonic() + START_SECONDS)
            except (TimeoutError, EOFError):
                self.close()
                raise MathQuarryError(
                    "the process that extracts pages did not start. Try `python -m mathquarry.data.extract.worker 1 1073741824 "
                    "careful` to see why."
                ) from None
        return self._process

    def _reply(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        (length,) = LENGTH.unpack(self._read(process, LENGTH.size, deadline))
        return self._read(process, length, deadline)

    def _read(self, process: subprocess.Popen[bytes], count: int, deadline: float) -> bytes:
        assert process.stdout is not None
        descriptor, content = process.stdout.fileno(), bytearray()
        while len(content) < count:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or time.monotonic() > deadline:
                raise TimeoutError
            part = os.read(descriptor, count - len(content))
            if not part:
                raise EOFError
            content += part
        return bytes(content)

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # unsent data is no longer needed
                stream.close()  # type: ignore[union-attr]
        self._process = None

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _widen(*pipes: IO[bytes] | None) -> None:
    """Let each pipe hold a whole page if the system can (Linux), so that the two processes need not take turns."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for pipe in pipes:
            with suppress(OSError):  # this user's pipes have reached their limit: slower, but still correct
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
