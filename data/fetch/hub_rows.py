"""The first row of a data set on the hub, to see whether it has the columns that a recipe names."""

from __future__ import annotations

from typing import Any

from mathquarry.data.errors import MathQuarryError

HUB, HUB_FILES = "hf://", "hf://datasets/"
"""Prefixes of a data set, and of single files in one."""


def repository_of(place: str) -> str | None:
    """`owner/name[@revision]` of `hf://owner/name[@revision]:config:split`; `None` of anything else, single files on the hub too."""
    if not place.startswith(HUB) or place.startswith(HUB_FILES):
        return None
    return place.removeprefix(HUB).partition(":")[0]


def first_row(place: str) -> dict[str, Any] | None:
    """The first row of `hf://owner/name[@revision][:config[:split]]`, without the rest of the set; `None` where the hub does not give it.

    Raises `MathQuarryError` when the set has no such config or split.
    """
    name, config, split = [*place.removeprefix(HUB).split(":"), "", ""][:3]
    name, _, revision = name.partition("@")
    import datasets

    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", revision=revision or None, streaming=True)
        return dict(next(iter(rows)))
    except ValueError as error:
        raise MathQuarryError(f"{place}: {' '.join(str(error).split())[:300].rstrip('.')}.") from error
    except Exception:  # the hub's client's, the network's and the library's own: the stage that reads it all says what is wrong
        return None
