"""The error that users see: what is wrong, where, and what to do about it."""

from __future__ import annotations


class MathQuarryError(Exception):
    """An error that the user can fix. The message names the file, field or value and the fix; the command line prints only the message."""


class BeingMade(MathQuarryError):
    """Another process is making the requested artifact. Waiting helps."""


class NotMade(MathQuarryError):
    """A required artifact does not exist. `key` is its key."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key
