"""Running a model's programs: one interface, whatever the enclosure.

A program is hostile until proven otherwise, and it is never proven otherwise. Which enclosure runs it, `ProgramsConfig.sandbox` says:

| `sandbox` | what | needs |
|---|---|---|
| `container` | a service in a container of its own, started and ended with this process (`data/programs/container.py`) | Docker |
| `local` | the same service in bubblewrap (`data/programs/local.py`) | Linux, `bwrap`, libseccomp |
| `service` | the same service, already running, at a Unix socket | its address |
| `arithmetic` | no Python at all: assignments of arithmetic and `print(name)` (`data/programs/arithmetic.py`) | nothing |

What they cover and what they do not: `docs/sandbox.md`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from data.config import ProgramsConfig
from data.errors import MathQuarryError


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a program, or of one block of a dialogue."""

    stdout: str
    """What it printed, as far as it was kept."""
    value: str | None = None
    """`repr` of the last statement's value, if it is an expression and not None, as a notebook shows it."""
    error: str | None = None
    """`Kind: message` of what was raised, or why it was stopped; none if it ran to its end."""
    timed_out: bool = False
    """It took longer than allowed, and was killed for it."""
    killed: bool = False
    """Its process has ended before the program did: killed for time, memory or output, crashed, or left by `os._exit`.

    The dialogue's variables are gone; its next block starts without any."""
    truncated: bool = False
    """It printed more than was kept."""

    @property
    def text(self) -> str:
        """What a dialogue is shown: the output, then the value or the error, without the space around."""
        parts = [self.stdout, "..." if self.truncated else "", self.error or self.value or ""]
        return "\n".join(part.strip() for part in parts if part.strip())


class Session(AbstractContextManager["Session"], Protocol):
    """One dialogue: its blocks run one after another and see the variables of those before."""

    def run(self, program: str) -> Result:
        """Run the next block. Raises `MathQuarryError` only when the sandbox itself fails."""
        ...


class Sandbox(Protocol):
    """Runs programs. A context manager; may be used from several threads, a session from one at a time."""

    def run(self, program: str) -> Result:
        """Run one program. Nothing of it is left when this returns. Raises `MathQuarryError` only when the sandbox itself fails."""
        ...

    def session(self) -> Session:
        """A new dialogue; close it, or use it as a context manager."""
        ...

    def close(self) -> None:
        """End it, and every program with it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def make_sandbox(config: ProgramsConfig) -> Sandbox:
    """The sandbox that `config.sandbox` names, started and ready.

    Raises `MathQuarryError` when it cannot be had: no Docker, no image, no bubblewrap, nobody at the socket.
    """
    # Imported here: the arithmetic one works where there are no Unix sockets.
    match config.sandbox:
        case "arithmetic":
            from data.programs.arithmetic import ArithmeticSandbox

            return ArithmeticSandbox()
        case "container":
            from data.programs.container import served_container, start_container

            return served_container(config) or start_container(config)
        case "local":
            from data.programs.local import start_local

            return start_local(config)
        case "service":
            from data.programs.client import ServiceSandbox

            if config.socket is None:
                raise MathQuarryError("programs.sandbox is `service`, but programs.socket does not say where it listens.")
            return ServiceSandbox(Path(config.socket), config)
