"""What a program may use. Given to the service once, when it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

SPARE = 16
"""Processes, and so many times four descriptors, beside those of the dialogues."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one service; the first four are for each program."""

    seconds: float
    """Wall clock of one block of a dialogue. Only `running` blocks run at once, so waiting for a turn does not count."""
    memory_bytes: int
    """Address space, the interpreter with numpy and sympy (about 160 MiB) included."""
    output_bytes: int
    """Of what a block prints, this much is kept; what follows is read and dropped."""
    value_characters: int
    """Longest value and longest error message."""
    running: int
    """Blocks that run at the same time."""
    sessions: int
    """Dialogues that are open at the same time."""
    held_bytes: int
    """Memory that all dialogues together hold between their blocks; beyond it, those that hold most are ended."""

    @property
    def flood_bytes(self) -> int:
        """A program that prints this much is killed."""
        return 256 * self.output_bytes

    @property
    def reply_bytes(self) -> int:
        """Most that a worker may answer: value and error, in ASCII JSON, which takes up to 12 bytes for a character."""
        return 24 * self.value_characters + 4096

    @property
    def result_bytes(self) -> int:
        """Most that the service answers: what was printed, up to 6 bytes for each, and value and error."""
        return 6 * self.output_bytes + self.reply_bytes

    @property
    def descriptors(self) -> int:
        """Most that server and fork server have open: four for each dialogue, and a few."""
        return 4 * (self.sessions + self.running + SPARE)

    def to_json(self) -> str:
        """For the service's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """What `to_json` wrote."""
        return cls(**json.loads(text))
