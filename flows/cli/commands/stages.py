"""Single stages of a recipe with your own inputs: `mine`, `sft`, `reward`, `grpo`.

Each command is short for `run RECIPE --until STAGE` with `start` and the sources set.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.cli.commands.common import MODEL, command

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands
    from mathquarry.flows.recipe import Recipe


def register(commands: Commands) -> None:
    """Add this group's commands."""
    mine = command(commands, "mine", "Mine a corpus from WARC files, or from a crawl in the store.")
    mine.add_argument("crawl", nargs="+", help="WARC files (paths, globs, URLs), or one artifact of stage crawl")
    _settings(mine, "mine")

    for name, purpose in (
        ("sft", "Fine-tune a model on the solutions of the recipe's problems."),
        ("reward", "Train a reward model on a policy's solutions."),
        ("grpo", "Train a model by reinforcement learning on the recipe's problems."),
    ):
        stage = command(commands, name, purpose)
        stage.add_argument("model", help=MODEL)
        if name == "grpo":
            stage.add_argument(
                "--reward", metavar="MODEL", help="reward model, in the same forms as the model (default: train one, if needed)"
            )
        stage.add_argument("--train", action="append", default=[], metavar="FILE", help="training problems, as in problems.source.train")
        stage.add_argument("--test", action="append", default=[], metavar="FILE", help="held-out problems, as in problems.source.test")
        _settings(stage, name)


def _settings(parser: argparse.ArgumentParser, stage: str) -> None:
    parser.add_argument("--recipe", help="recipe with the settings: a name or the path of a .toml file (default: the paper's numbers)")
    parser.add_argument("--set", action="append", default=[], metavar="section.field=value", help="override a field of the recipe")
    parser.add_argument("--dry-run", action="store_true", help="print the stages and their estimated costs")
    parser.set_defaults(run=_run_stage, stage=stage)


def _run_stage(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.run import dry_run, run_embedded

    recipe = recipe_of(options)
    if options.dry_run:
        dry_run(recipe, options.store, options.stage)
    else:
        run_embedded(recipe, options.store, None, None, options.stage)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the recipe that a command stands for. Raises `MathQuarryError` for inputs that do not exist, and for wrong fields."""
    from mathquarry.flows.cli.written import inline
    from mathquarry.flows.recipe import load_recipe, override_recipe

    settings = load_recipe(options.recipe) if options.recipe else None
    overrides = [f"{field}={inline(value)}" for field, value in inputs(options, settings).items()]
    overrides += options.set
    return load_recipe(options.recipe, overrides) if options.recipe else override_recipe({"name": options.stage}, overrides)


def inputs(options: argparse.Namespace, settings: Recipe | None) -> dict[str, Any]:
    """Return the command's inputs as fields of a recipe: field -> value. Raises `MathQuarryError` for a name that does not exist."""
    from mathquarry.flows.stages.references import is_artifact, looked_up

    if options.stage == "mine":
        first = looked_up(options.store, options.crawl[0]) if len(options.crawl) == 1 else ""
        return {"start.crawl": first} if is_artifact(first) else {"crawl.source": {"kind": "files", "warcs": options.crawl}}
    if bool(options.train) != bool(options.test):
        raise MathQuarryError("--train and --test go together: give problems to train on, and others for evaluation.")
    chosen: dict[str, Any] = {
        "start.policy": looked_up(options.store, options.model),
        "start.stages": ["sft" if options.stage == "sft" else "grpo"],
    }
    if options.stage == "grpo" and options.reward:
        chosen["start.reward"] = looked_up(options.store, options.reward)
    if options.train:
        files = {"kind": "files", "train": options.train, "test": options.test}
        # Options for reading files come from the recipe, if it reads files.
        before = settings.problems.source.model_dump(mode="json", exclude_unset=True) if settings is not None else {}
        chosen["problems.source"] = before | files if before.get("kind") == "files" else files
    return chosen
