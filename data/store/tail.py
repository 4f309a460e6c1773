"""Reads metrics while a stage writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class MetricTail:
    """The records of a `metrics.jsonl` that is still being written.

    Each look reads the lines that were added. An incomplete last line is read later. If the file was replaced, it is read from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._position = 0
        self.records: list[dict[str, Any]] = []

    def look(self) -> list[dict[str, Any]]:
        """Read the new lines. Returns all records so far."""
        try:
            with self._path.open("rb") as file:
                self._read(file)
        except FileNotFoundError:
            self._file, self._position, self.records = None, 0, []
        return self.records

    def _read(self, file: Any) -> None:
        about = os.fstat(file.fileno())
        if (about.st_dev, about.st_ino) != self._file or about.st_size < self._position:
            self._file, self._position, self.records = (about.st_dev, about.st_ino), 0, []
        file.seek(self._position)
        text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        self.records = [*self.records, *map(json.loads, whole.splitlines())] if whole else self.records
