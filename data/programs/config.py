"""Config of the sandbox."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mathquarry.data.config import Config, Positive


class ProgramsConfig(Config):
    """Where a model's programs run, and what they may use (our choices; see docs/sandbox.md)."""

    sandbox: Literal["container", "local", "service", "arithmetic"] = Field(
        "container",
        description="`container`: a Docker container; `local`: bubblewrap; `service`: one that is already running, at `socket`; "
        "`arithmetic`: no Python, only assignments of arithmetic and `print(name)`.",
    )
    unsafe: bool = Field(False, description="`local` without bubblewrap: programs can then read every file that you can read.")
    image: str | None = Field(None, description="Image of the container (default: the one that `make sandbox` builds).")
    socket: str | None = Field(None, description="Unix socket of a running service.")
    seconds: float = Field(10.0, gt=0, description="Time limit of one program, or of one block of a dialogue.")
    memory_mib: Annotated[int, Field(ge=256)] = Field(512, description="Memory of one program; Python with its libraries takes 160 of it.")
    output_bytes: Annotated[int, Field(ge=64, le=2**17)] = Field(16_384, description="Bytes kept of a program's output.")
    running: Positive = Field(2, description="Programs that run at the same time; at most the number of available cores.")
    sessions: Positive = Field(256, description="Dialogues that are open at the same time.")
    held_mib: Positive = Field(
        8192, description="Memory of all dialogues together between their blocks; beyond it, the largest one is ended."
    )
