"""Downloads that survive a kill: the received bytes stay beside the target, and the next call asks for the rest.

During a download there are `NAME.part` (the bytes so far) and `NAME.part.json` (the file's URL and version). A download
resumes only if the server names versions. It starts over if the file changed or the server sends only whole files. The
complete file then appears under its name in one step.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.client import PoliteClient
from mathquarry.data.fetch.receiver import Remote, RemoteError
from mathquarry.data.files import disk_error, read_json, sync_path, write_json


def download(client: PoliteClient, url: str, target: Path, limit: int) -> None:
    """Fetch `url` to `target`, which is always complete or absent; an existing `target` is kept.

    Raises `RemoteError` naming the URL after the last attempt, and for a file of more than `limit` bytes; `MathQuarryError` when the disk
    is full. Received bytes are kept.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _PartialFile(url, target, limit) as partial:
            client.transfer(url, partial)
            partial.publish()
    except OSError as error:
        raise disk_error(error, target) from error


class _PartialFile:
    """Receives a file on disk."""

    def __init__(self, url: str, target: Path, limit: int) -> None:
        self._url, self._target, self._limit = url, target, limit
        self._path = target.with_name(f"{target.name}.part")
        self._state = target.with_name(f"{target.name}.part.json")
        self.start = 0
        self.stop: int | None = None
        self.version = self._known_version()
        self._file: BinaryIO = self._path.open("ab" if self.version else "wb")
        self.position = self._file.tell()

    def _known_version(self) -> str:
        try:
            state = read_json(self._state)
        except MathQuarryError:  # no earlier attempt, or one that was killed before the server answered
            return ""
        return state["version"] if state.get("url") == self._url else ""

    def begin(self, remote: Remote) -> None:
        """Record the version before its first byte is written."""
        if remote.size is not None and remote.size > self._limit:
            raise RemoteError(f"{self._url} has {remote.size:,} bytes, more than the limit of {self._limit:,}.")
        if not self.version and remote.version:
            write_json(self._state, {"url": self._url, "version": remote.version})
        self.version = remote.version

    def restart(self) -> None:
        """Discard the received bytes."""
        self._state.unlink(missing_ok=True)
        self._file.truncate(0)
        self._file.seek(0)
        self.position, self.version = 0, ""

    def write(self, block: bytes) -> None:
        """Append without buffering, so that bytes received by a killed process are not fetched again."""
        self.position += len(block)
        if self.position > self._limit:
            raise RemoteError(f"{self._url} has more than the limit of {self._limit:,} bytes.")
        self._file.write(block)
        self._file.flush()

    def publish(self) -> None:
        """Rename the complete file to its target."""
        os.fsync(self._file.fileno())
        self._path.replace(self._target)
        self._state.unlink(missing_ok=True)
        sync_path(self._target.parent)

    def __enter__(self) -> _PartialFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
