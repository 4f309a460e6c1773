"""The one error that people see: what is wrong, where, and what to do about it."""

from __future__ import annotations


class MathQuarryError(Exception):
    """Something the user can mend. The message names the file, field or value and the remedy; the command line prints it alone."""


class BeingMade(MathQuarryError):
    """Another process is making the artifact that was asked for. Waiting helps."""


class NotMade(MathQuarryError):
    """An artifact that has to be there is not. `key` is its key."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key
