"""Runs a model's programs, with one interface for all enclosures.

Every program is treated as hostile. `ProgramsConfig.sandbox` selects the enclosure:

| `sandbox` | what | needs |
|---|---|---|
| `container` | a service in its own container, started and ended with this process (`data/programs/container.py`) | Docker |
| `local` | the same service in bubblewrap (`data/programs/local.py`) | Linux, `bwrap`, libseccomp |
| `service` | the same service, already running, at a Unix socket | its address |
| `arithmetic` | no Python at all: assignments of arithmetic and `print(name)` (`data/programs/arithmetic.py`) | nothing |

`docs/sandbox.md` describes what they protect against and what they do not.
"""

from __future__ import annotations

from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.interface import Sandbox


def make_sandbox(config: ProgramsConfig) -> Sandbox:
    """The sandbox that `config.sandbox` names, started and ready.

    Raises `MathQuarryError` if it cannot start: no Docker, no image, no bubblewrap, or no service at the socket.
    """
    # Imported here, so that the arithmetic one works without Unix sockets.
    match config.sandbox:
        case "arithmetic":
            from mathquarry.data.programs.arithmetic import ArithmeticSandbox

            return ArithmeticSandbox()
        case "container":
            from mathquarry.data.programs.container import served_container, start_container

            return served_container(config) or start_container(config)
        case "local":
            from mathquarry.data.programs.local import start_local

            return start_local(config)
        case "service":
            from mathquarry.data.programs.client import ServiceSandbox

            if config.socket is None:
                raise MathQuarryError("programs.sandbox is `service`, but programs.socket does not say where it listens.")
            return ServiceSandbox(Path(config.socket), config)
