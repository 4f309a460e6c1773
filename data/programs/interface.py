"""The interface of a sandbox: programs in, results out. It knows no implementation; `data/programs/sandbox.py` makes one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a program, or of one block of a dialogue."""

    stdout: str
    """The kept part of its output."""
    value: str | None = None
    """`repr` of the last statement's value, if that is an expression and not None, as in a notebook."""
    error: str | None = None
    """`Kind: message` of the exception, or why it was stopped; None if it ran to its end."""
    timed_out: bool = False
    """It exceeded the time limit and was killed."""
    killed: bool = False
    """Its process ended before the program did: killed for time, memory or output, crashed, or exited with `os._exit`.

    The dialogue's variables are lost; its next block starts without any."""
    truncated: bool = False
    """Part of its output was dropped."""

    @property
    def text(self) -> str:
        """The text shown in a dialogue: the output, then the value or the error, stripped of surrounding white space."""
        parts = [self.stdout, "..." if self.truncated else "", self.error or self.value or ""]
        return "\n".join(part.strip() for part in parts if part.strip())


class Session(AbstractContextManager["Session"], Protocol):
    """One dialogue: its blocks run one after another and see the variables of earlier blocks."""

    def run(self, program: str) -> Result:
        """Run the next block. Raises `MathQuarryError` only when the sandbox itself fails."""
        ...


class Sandbox(Protocol):
    """Runs programs. A context manager; may be used from several threads, a session from one at a time."""

    def run(self, program: str) -> Result:
        """Run one program. Nothing of it is left afterwards. Raises `MathQuarryError` only when the sandbox itself fails."""
        ...

    def session(self) -> Session:
        """A new dialogue; close it, or use it as a context manager."""
        ...

    def close(self) -> None:
        """End the sandbox and all its programs."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
