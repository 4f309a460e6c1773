"""Limits on programs, given to the service when it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

SPARE = 16
"""Processes besides those of the dialogues; each also needs four descriptors."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one service; the first four are for each program."""

    seconds: float
    """Wall-clock time of one block of a dialogue. Only `running` blocks run at once; waiting for a turn does not count."""
    memory_bytes: int
    """Address space, including the interpreter with numpy and sympy (about 160 MiB)."""
    output_bytes: int
    """Bytes kept of a block's output; further output is read and dropped."""
    value_characters: int
    """Longest value and longest error message."""
    running: int
    """Blocks that run at the same time."""
    sessions: int
    """Dialogues that are open at the same time."""
    held_bytes: int
    """Memory of all dialogues together between their blocks; beyond it, the largest ones are ended."""

    @property
    def flood_bytes(self) -> int:
        """A program that prints this much is killed."""
        return 256 * self.output_bytes

    @property
    def reply_bytes(self) -> int:
        """Longest reply of a worker: value and error in ASCII JSON, which takes up to 12 bytes per character."""
        return 24 * self.value_characters + 4096

    @property
    def result_bytes(self) -> int:
        """Longest reply of the service: the output, up to 6 bytes per byte, plus value and error."""
        return 6 * self.output_bytes + self.reply_bytes

    @property
    def descriptors(self) -> int:
        """Most descriptors that server and fork server have open: four per dialogue, and a few."""
        return 4 * (self.sessions + self.running + SPARE)

    def to_json(self) -> str:
        """JSON for the service's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """Read the output of `to_json`."""
        return cls(**json.loads(text))
