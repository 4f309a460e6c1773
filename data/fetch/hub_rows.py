"""Reads the first row of a data set on the hub, to check the columns that a recipe names."""

from __future__ import annotations

from typing import Any

from mathquarry.data.errors import MathQuarryError

HUB, HUB_FILES = "hf://", "hf://datasets/"
"""Prefixes of a data set, and of a single file in a data set."""


def repository_of(place: str) -> str | None:
    """Return `owner/name[@revision]` of `hf://owner/name[@revision]:config:split`; `None` for other places, also single files."""
    if not place.startswith(HUB) or place.startswith(HUB_FILES):
        return None
    return place.removeprefix(HUB).partition(":")[0]


def first_row(place: str) -> dict[str, Any] | None:
    """Return the first row of `hf://owner/name[@revision][:config[:split]]`, without downloading the set; `None` if the hub fails.

    Raises `MathQuarryError` if the set has no such config or split.
    """
    name, config, split = [*place.removeprefix(HUB).split(":"), "", ""][:3]
    name, _, revision = name.partition("@")
    import datasets

    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", revision=revision or None, streaming=True)
        return dict(next(iter(rows)))
    except ValueError as error:
        raise MathQuarryError(f"{place}: {' '.join(str(error).split())[:300].rstrip('.')}.") from error
    except Exception:  # of the hub client, the network or the library: the stage that reads the whole set reports it
        return None
