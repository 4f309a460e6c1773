"""Finds the model that a command names: an artifact in the store, a folder, a model on the hub, or a GGUF file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.fetch.hub import fetch_model, is_hub_name
from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.flows.cli.commands.common import MODEL

POLICY_STAGES = ("pretrain", "sft", "grpo")


@dataclass(frozen=True)
class NamedModel:
    """A model's name and its files."""

    name: str
    source: str | Path
    """A folder; or, as text, a GGUF file or `package:NAME`."""
    key: str | None = None
    """Key of the artifact, if it is one."""

    @property
    def title(self) -> str:
        """Name for reports and folders."""
        return self.name if self.key is None else f"{self.name} {self.key[:8]}"


def find_model(name: str, store_url: str) -> NamedModel:
    """Find the model called `name`. A name that could be a folder is one if the folder exists. The ledger is searched before the hub.

    Raises `MathQuarryError` if there is none, or if it is not a policy.
    """
    if name.startswith("package:") or name.endswith(".gguf"):
        return NamedModel(name, name)
    if (Path(name) / "config.json").is_file():
        return NamedModel(name, Path(name))
    if Path(name).is_dir():
        raise MathQuarryError(f"{name} is a folder without config.json, so it is not a model. Give the folder that has it.")
    stage, _, key = name.partition("/")
    if stage in POLICY_STAGES and key:
        return _artifact(key, store_url)
    if is_hub_name(name):
        return NamedModel(name, fetch_model(name))
    return _artifact(name, store_url)


@contextmanager
def checkpoint(model: NamedModel, style: PromptStyle | None = None) -> Iterator[Path]:
    """Yield the model as a checkpoint folder for engines and `Prompter`. It can be temporary."""
    from mathquarry.models.policy.foreign import checkpoint_folder

    with tempfile.TemporaryDirectory(prefix="mathquarry-model-") as room:
        yield checkpoint_folder(model.source, Path(room), style)


def _artifact(name: str, store_url: str) -> NamedModel:
    from mathquarry.data.ledger.ledger import Ledger
    from mathquarry.data.store.store import Store

    store = Store(store_url)
    if not store.ledger_path.exists():
        raise MathQuarryError(f"there is no folder {name}, and no store at {store_url}. MODEL is an {MODEL}.")
    try:
        row = Ledger(store).resolve(name)
    except MathQuarryError as error:
        raise MathQuarryError(f"there is no folder {name}, and {error} MODEL is an {MODEL}.") from None
    if row["stage"] not in POLICY_STAGES:
        raise MathQuarryError(
            f"{name} is an artifact of stage {row['stage']}, which does not make policies. Choose one of stage {', '.join(POLICY_STAGES)}."
        )
    return NamedModel(name, store.get(row["stage"], row["key"]).path / "model", row["key"])
