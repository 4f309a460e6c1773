"""Lists the artifacts that are being made in a store, from the file `making.json` in each work folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json, write_json
from mathquarry.data.store.artifacts import Identity
from mathquarry.data.store.locks import is_locked

MAKING = "making.json"


@dataclass(frozen=True)
class Making:
    """An artifact that a process on this host is making. `scratch` holds its metrics so far; `begun` is a Unix time."""

    stage: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, str]
    begun: float
    scratch: Path


def write_making(room: Path, identity: Identity) -> None:
    """Write `making.json` into the work folder `room`: which artifact is being made there."""
    about = {"stage": identity.stage, "config": dict(identity.config), "inputs": dict(identity.inputs), "begun": time.time()}
    write_json(room / MAKING, about)


def being_made(root: Path) -> Iterator[Making]:
    """Yield each artifact that is being made in the store at the folder `root`."""
    for path in sorted(root.glob(f"work/*/{MAKING}")):
        room = path.parent
        try:
            found = read_json(path) if is_locked(room) else None
        except (MathQuarryError, OSError):  # the work has just ended
            continue
        if isinstance(found, dict):
            yield Making(found["stage"], room.name, found["config"], found["inputs"], found["begun"], room / "scratch")
