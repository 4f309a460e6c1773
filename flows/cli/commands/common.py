"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]

MODEL = (
    "artifact (a key, a name in the latest run such as grpo-2, or a stage), folder, hub model (owner/name[@revision]), .gguf file or "
    "package:NAME"
)
"""The accepted forms of a model's name."""


def command(commands: Commands, name: str, purpose: str) -> argparse.ArgumentParser:
    """Add a command that reads or writes a store."""
    added = commands.add_parser(name, help=purpose, description=purpose)
    default = os.environ.get("MATHQUARRY_STORE", "store")
    added.add_argument("--store", default=default, help="folder or fsspec URL of the artifacts (default: %(default)s)")
    return added


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for a recipe and its overrides."""
    parser.add_argument("recipe", help="name of a built-in recipe, or path of a .toml file")
    parser.add_argument("--set", action="append", default=[], metavar="section.field=value", help="override a field of the recipe")


def count(text: str) -> int:
    """Parse a whole number that is not negative, for argparse."""
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number of 0 or more")
    return int(text)
