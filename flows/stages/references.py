"""Finds what a recipe or a command starts from: an artifact in the store, or an external model or text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.store import Store

Role = Literal["policy", "corpus", "crawl", "reward"]

FITTING: dict[Role, tuple[str, ...]] = {
    "policy": ("sft", "grpo", "pretrain", "import"),
    "corpus": ("mine", "import"),
    "crawl": ("crawl",),
    "reward": ("reward", "import"),
}
"""Stages whose artifacts fit each role."""
_ARTIFACT = re.compile(r"(?:(?P<stage>[a-z]+)/)?(?P<key>[0-9a-f]{20})")


def given_artifact(store: str, role: Role, name: str | None) -> str | None:
    """Return the reference of the artifact that `start.<role>` names by `stage/key` or by key; `None` if it is not an artifact's name.

    Raises `MathQuarryError` if the artifact is not in the store, or if its stage does not fit the role.
    """
    match = _ARTIFACT.fullmatch(name or "")
    if match is None:
        if name is not None and role == "crawl":
            raise MathQuarryError(f"start.crawl: {name} is not an artifact. Give an artifact's key, or set files in crawl.source.warcs.")
        return None
    fitting = FITTING[role]
    if match["stage"] and match["stage"] not in fitting:
        raise MathQuarryError(f"start.{role}: {name} is an artifact of stage {match['stage']}; choose one of stage {', '.join(fitting)}.")
    shop = Store(store)
    for stage in [match["stage"]] if match["stage"] else fitting:
        if shop.find(stage, match["key"]) is not None:
            return f"{stage}/{match['key']}"
    raise MathQuarryError(f"start.{role}: {name} is not in the store {store}. `mathquarry ledger ls` lists its artifacts.")


def is_artifact(name: str) -> bool:
    """Whether a name has the form of an artifact's."""
    return _ARTIFACT.fullmatch(name) is not None


def looked_up(store: str, name: str) -> str:
    """Resolve a name that a person typed. A file, folder or hub name is returned unchanged; any other name is looked up in the ledger.

    The ledger accepts the beginning of a key, a name in the latest run (`grpo-2`), and a stage, for its latest artifact. The result is then
    `stage/key`, which does not change later. Raises `MathQuarryError` if the name cannot be resolved.
    """
    if is_artifact(name) or "/" in name or ":" in name or name.endswith(".gguf") or Path(name).exists():
        return name
    from mathquarry.data.ledger.ledger import Ledger

    row = Ledger(Store(store)).resolve(name)
    return f"{row['stage']}/{row['key']}"
