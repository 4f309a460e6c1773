"""Commands that take a recipe: `run`, `compare`, `ablate`, `plan`; and `stages`, which lists what a recipe runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.cli.commands.common import command, recipe_arguments
from mathquarry.flows.stages.registry import STAGES
from mathquarry.models.hardware import GPUS

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands

COMPARED = ("methods", "rewards", "credit")
EXPERIMENTS = ("corpora", "code", "papers")
"""The values in `models/experiments.py`, repeated here because importing it takes longer than printing the help."""


def register(commands: Commands) -> None:
    """Add this group's commands."""
    run = command(commands, "run", "Run a recipe. Artifacts that exist already are reused.")
    recipe_arguments(run)
    run.add_argument("--dry-run", action="store_true", help="check the run, and print its non-default settings, stages and costs")
    run.add_argument("--all", action="store_true", help="with --dry-run: print every field")
    run.add_argument("--from", dest="begin_at", choices=list(STAGES), help="begin at this stage; earlier artifacts must be in the store")
    run.add_argument("--until", choices=list(STAGES), help="end with this stage; only stages that it needs are run")
    run.add_argument("--only", choices=list(STAGES), help="run only this stage; its inputs must be in the store")
    run.add_argument("--rebuild", choices=list(STAGES), help="rerun this stage and all that depend on it, and replace their artifacts")
    run.set_defaults(run=_run)

    compare = command(commands, "compare", "Compare reinforcement learning from the recipe's fine-tuned policy, with several seeds.")
    recipe_arguments(compare)
    sides = "training methods; a refreshed and a frozen reward model; or credit assignment (default: %(default)s)"
    compare.add_argument("compared", nargs="?", choices=COMPARED, default="methods", help=sides)
    compare.set_defaults(run=_compare)

    ablate = command(commands, "ablate", "Compare pretraining on the recipe's data mixes, with several seeds.")
    recipe_arguments(ablate)
    ablate.add_argument("experiment", choices=EXPERIMENTS, help="section of the recipe's `ablate`")
    ablate.set_defaults(run=_ablate)

    plan = command(commands, "plan", "Estimate what a recipe costs on given GPUs.")
    recipe_arguments(plan)
    plan.add_argument(
        "--gpu", choices=[*GPUS, "cpu"], default="h100", help="kind of GPU, or `cpu`: this machine without one (default: %(default)s)"
    )
    plan.add_argument("--gpus", type=int, metavar="N", help="number of GPUs for every stage (default: the recipe's ranks)")
    plan.add_argument(
        "--check", action="store_true", help="also run the training code with fake tensors, at its true size, to check memory"
    )
    plan.set_defaults(run=_plan)

    stages = commands.add_parser("stages", help="List the stages.", description="List the stages.")
    stages.set_defaults(run=_stages)


def _run(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.run import dry_run, run_embedded
    from mathquarry.flows.recipe import load_recipe

    if options.only and (options.begin_at or options.until):
        raise MathQuarryError("--only STAGE stands for --from STAGE --until STAGE. Do not combine it with them.")
    recipe = load_recipe(options.recipe, options.set)
    if options.dry_run:
        dry_run(recipe, options.store, options.until or options.only, options.all)
    else:
        run_embedded(recipe, options.store, options.begin_at or options.only, options.rebuild, options.until or options.only)


def _compare(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.run import compare_embedded
    from mathquarry.flows.recipe import load_recipe

    compare_embedded(load_recipe(options.recipe, options.set), options.compared, options.store)


def _ablate(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.run import ablate_embedded
    from mathquarry.flows.recipe import load_recipe

    ablate_embedded(load_recipe(options.recipe, options.set), options.experiment, options.store)


def _plan(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.plan import check_lines, on_ranks, plan_lines
    from mathquarry.flows.pipeline import run_pipeline
    from mathquarry.flows.preflight.check import Preflight
    from mathquarry.flows.preflight.planned import planned_run
    from mathquarry.flows.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.set)
    if options.gpus is not None:
        if options.gpus < 1:
            raise MathQuarryError(f"--gpus is {options.gpus}; a plan needs at least one GPU.")
        recipe = on_ranks(recipe, options.gpus)
    planned = planned_run(recipe, options.store, lambda run: run_pipeline(run, recipe))
    notes = Preflight(planned).check()
    if options.check:
        lines = check_lines(recipe, options.gpu, options.store)
    else:
        lines = [*plan_lines(recipe, options.gpu, options.store, planned), *notes]
    print(*lines, sep="\n")


def _stages(options: argparse.Namespace) -> None:
    for name, info in STAGES.items():
        print(f"{name:<10} {'GPU' if info.gpu else 'CPU'}  {info.purpose}\n{'':<15} needs: {', '.join(info.needs) or 'nothing'}")
