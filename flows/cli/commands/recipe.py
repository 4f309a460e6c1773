"""Commands `recipe new` and `recipe ls`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands


def register(commands: Commands) -> None:
    """Add this group's commands."""
    purpose = "Write your own recipe, or list the built-in ones."
    recipe = commands.add_parser("recipe", help=purpose, description=purpose).add_subparsers(required=True, metavar="COMMAND")
    purpose = "Write a commented recipe from flags. At a terminal, asks for missing ones."
    new = recipe.add_parser("new", help=purpose, description=purpose)
    new.add_argument("path", help="file to write, NAME.toml")
    new.add_argument("--extends", metavar="RECIPE", help="start from another recipe, and write only the differences")
    new.add_argument("--model", help="policy to start from: folder, .gguf file or hub name")
    new.add_argument("--train", action="append", default=[], metavar="FILE", help="training problems, as in problems.source.train")
    new.add_argument("--test", action="append", default=[], metavar="FILE", help="held-out problems, as in problems.source.test")
    new.add_argument("--warc", action="append", default=[], metavar="FILE", help="WARC files to mine and pretrain on")
    new.add_argument("--stages", help="training to do, with commas between: pretrain, sft, grpo")
    new.add_argument("--reward", choices=["rule", "model"], help="reward function: the answer checker, or a reward model")
    new.add_argument("--engine", choices=["transformers", "vllm"], help="engine that generates")
    new.add_argument("--set", action="append", default=[], metavar="section.field=value", help="any other field")
    new.set_defaults(run=_new)
    purpose = "List the built-in recipes."
    recipe.add_parser("ls", help=purpose, description=purpose).set_defaults(run=_list)


def _new(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.new_recipe import Answers, ask, write_recipe

    chosen = (options.extends, options.model, options.train, options.test, options.warc, options.stages, options.reward, options.engine)
    answers = Answers(*chosen, overrides=options.set)
    if sys.stdin.isatty():
        ask(answers)
    write_recipe(Path(options.path), answers)
    print(f"Wrote {options.path}. `mathquarry run {options.path} --dry-run` checks it and estimates its cost.")


def _list(options: argparse.Namespace) -> None:
    from mathquarry.flows.recipe_files import read_recipe, recipe_names

    for name in recipe_names():
        print(f"{name:<12} {read_recipe(name).get('description', '')}")
