"""The command line: `mathquarry run|compare|ablate|plan|stages|report|deploy|why|domains|ledger`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import get_args

from data.errors import MathQuarryError
from flows.stages import STAGES
from models.experiments import Compared, Experiment
from models.hardware import GPUS


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Errors a user can mend are printed without a traceback; the exit status is then 1."""
    options = command_parser().parse_args(arguments)
    # Figures arrive one line at a time when the output is a pipe, too.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        options.run(options)
    except MathQuarryError as error:
        print(f"mathquarry: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # whoever read our output, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        where = error.filename2 or error.filename or "a file"
        print(
            f"mathquarry: {where}: {error.strerror}. Choose a store that this user may write (--store), or ask for the right.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nmathquarry: stopped. Run the same command again to go on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _count(text: str) -> int:
    """A whole number that is not negative, for argparse."""
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text[:40]} is no whole number from 0 on")
    return int(text)


def command_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = argparse.ArgumentParser(prog="mathquarry", description="From a web crawl to a model that reasons about mathematics.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    default_store = os.environ.get("MATHQUARRY_STORE", "store")

    def command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=purpose, description=purpose)
        added.add_argument("--store", default=default_store, help="folder or fsspec URL of the artifacts (default: %(default)s)")
        return added

    run = command(commands, "run", "Run a recipe; what is there already is not done again.")
    run.add_argument("recipe", help="name of a recipe that comes along, or path of a .toml file")
    run.add_argument("--set", action="append", default=[], metavar="section.field=value", help="override a field of the recipe")
    run.add_argument("--dry-run", action="store_true", help="print the resolved recipe, the stages and their estimated cost")
    run.add_argument("--from", dest="begin_at", choices=list(STAGES), help="begin at this stage; what comes before must be in the store")
    run.add_argument("--force", choices=list(STAGES), help="make this stage and what depends on it again, replacing the artifacts")
    run.set_defaults(run=_run)

    compare = command(commands, "compare", "Reinforcement learning side by side from the recipe's fine-tuned policy, with several seeds.")
    compare.add_argument("recipe", help="name of a recipe that comes along, or path of a .toml file")
    sides = "training methods, or a refreshed and a frozen reward model (default: %(default)s)"
    compare.add_argument("compared", nargs="?", choices=get_args(Compared), default="methods", help=sides)
    compare.add_argument("--set", action="append", default=[], metavar="section.field=value", help="override a field of the recipe")
    compare.set_defaults(run=_compare)

    ablate = command(commands, "ablate", "Pretrain on the recipe's mixes side by side, with several seeds: what should one train on?")
    ablate.add_argument("recipe", help="name of a recipe that comes along, or path of a .toml file")
    ablate.add_argument("experiment", choices=get_args(Experiment), help="which section of the recipe's `ablate`")
    ablate.add_argument("--set", action="append", default=[], metavar="section.field=value", help="override a field of the recipe")
    ablate.set_defaults(run=_ablate)

    plan = commands.add_parser("plan", help="What a recipe costs on given GPUs.", description="What a recipe costs on given GPUs.")
    plan.add_argument("recipe", help="name of a recipe that comes along, or path of a .toml file")
    plan.add_argument("--gpu", choices=list(GPUS), default="h100", help="kind of GPU (default: %(default)s)")
    plan.add_argument("--gpus", type=int, default=8, metavar="N", help="how many (default: %(default)s)")
    plan.add_argument("--set", action="append", default=[], metavar="section.field=value", help="override a field of the recipe")
    plan.set_defaults(run=_plan)

    stages = commands.add_parser("stages", help="List the stages.", description="List the stages.")
    stages.set_defaults(run=_stages)

    report = command(commands, "report", "Write the report of a recorded run, of an artifact and what made it, or of runs side by side.")
    report.add_argument(
        "of",
        nargs="*",
        metavar="RUN|ARTIFACT",
        help="ids of runs or their beginnings, several being put side by side; or an artifact: its key or the beginning of it, a name in "
        "the newest run (grpo-2), or a stage (default: the newest run)",
    )
    report.add_argument("-o", "--output", default="report.html", help="file to write (default: %(default)s)")
    report.set_defaults(run=_report)

    deploy = commands.add_parser("deploy", help="Register pools, deployments and schedules with the Prefect server.")
    deploy.set_defaults(run=_deploy)

    why = command(commands, "why", "Say why a page is in a corpus or not: round, score, or the rule that dropped it.")
    why.add_argument("url", help="address of the page, in any spelling")
    why.add_argument("--corpus", default="mine", metavar="ARTIFACT", help="key or its beginning (default: the newest corpus)")
    why.set_defaults(run=_ledger("why"))

    domains = command(
        commands, "domains", "Print a corpus' domain table, greatest expected gain first, or write an annotation file from it."
    )
    domains.add_argument("artifact", nargs="?", default="mine", help="key of a corpus or its beginning (default: the newest corpus)")
    domains.add_argument("--limit", type=_count, default=40, metavar="N", help="hosts to print (default: %(default)s)")
    domains.add_argument(
        "--toml", metavar="FILE", help="write the paths of mathematical domains to an annotation file, or add new ones to it, instead"
    )
    domains.set_defaults(run=_ledger("domains"))

    ledger = commands.add_parser("ledger", help="Ask what was made, from what, and whether it is whole.").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = command(ledger, "ls", "List artifacts, or runs.")
    listing.add_argument("--stage", choices=list(STAGES), help="only this stage")
    listing.add_argument("--runs", action="store_true", help="list runs instead")
    listing.add_argument("--limit", type=_count, default=100, metavar="N", help="the newest N (default: %(default)s; 0: all)")
    listing.set_defaults(run=_ledger("list_artifacts"))
    for name, purpose in (("show", "Show one artifact."), ("lineage", "Show what made an artifact, down to files, config and code.")):
        one = command(ledger, name, purpose)
        one.add_argument("artifact", help="key or its beginning, a name in the newest run (grpo-2), or a stage (its newest)")
        one.set_defaults(run=_ledger(name))
    one.add_argument("--direction", choices=["up", "down", "both"], default="up", help="what made it, what was made from it, or both")
    one.add_argument("--json", action="store_true", help="print the graph as JSON")
    one.add_argument("-o", "--output", metavar="FILE.svg", help="write the graph as a picture instead")
    sql = command(ledger, "sql", "Ask with SQL; the views are listed in docs/ledger.md. Nothing can be written.")
    sql.add_argument("query", help='for example "select stage, count(*) from artifacts group by stage"')
    sql.add_argument("--limit", type=_count, default=100, metavar="N", help="rows to print (default: %(default)s; 0: all)")
    sql.add_argument("--json", action="store_true", help="print a JSON object a row")
    sql.set_defaults(run=_ledger("sql"))
    affected = command(ledger, "affected", "List every artifact that holds something, or was made from one that does.")
    what = affected.add_mutually_exclusive_group(required=True)
    what.add_argument("--site", metavar="HOST", help="pages of a host and its subdomains")
    what.add_argument("--url", help="a page, as the corpus spells its address")
    what.add_argument("--problem", metavar="ID", help="a problem")
    affected.set_defaults(run=_ledger("affected"))
    command(ledger, "sync", "Rebuild the ledger from the artifacts' manifests.").set_defaults(run=_ledger("sync"))
    command(ledger, "verify", "Check every artifact's files against its manifest.").set_defaults(run=_ledger("verify"))
    gc = command(ledger, "gc", "Find artifacts that no recorded run uses, and what interrupted work left.")
    gc.add_argument("--keep-runs", type=_count, metavar="N", help="keep only what the newest N completed runs use, and running ones")
    gc.add_argument("--older-than", type=_count, default=24, metavar="HOURS", help="keep what is younger (default: 24)")
    gc.add_argument("--delete", action="store_true", help="ask, then delete them (default: only list them)")
    gc.add_argument("--yes", action="store_true", help="delete them without a question")
    gc.set_defaults(run=_ledger("collect_garbage"))
    return parser


def _run(options: argparse.Namespace) -> None:
    from flows.recipe import load_recipe
    from flows.run import dry_run, run_embedded

    recipe = load_recipe(options.recipe, options.set)
    if options.dry_run:
        dry_run(recipe)
    else:
        run_embedded(recipe, options.store, options.begin_at, options.force)


def _compare(options: argparse.Namespace) -> None:
    from flows.recipe import load_recipe
    from flows.run import compare_embedded

    compare_embedded(load_recipe(options.recipe, options.set), options.compared, options.store)


def _ablate(options: argparse.Namespace) -> None:
    from flows.recipe import load_recipe
    from flows.run import ablate_embedded

    ablate_embedded(load_recipe(options.recipe, options.set), options.experiment, options.store)


def _plan(options: argparse.Namespace) -> None:
    from flows.plan import plan_lines
    from flows.recipe import load_recipe

    if options.gpus < 1:
        raise MathQuarryError(f"--gpus is {options.gpus}; a plan needs at least one GPU.")
    for line in plan_lines(load_recipe(options.recipe, options.set), options.gpu, options.gpus):
        print(line)


def _stages(options: argparse.Namespace) -> None:
    for name, info in STAGES.items():
        print(f"{name:<10} {'GPU' if info.gpu else 'CPU'}  {info.purpose}\n{'':<15} needs: {', '.join(info.needs) or 'nothing'}")


def _report(options: argparse.Namespace) -> None:
    from flows.pages import write_report

    write_report(options.store, options.of, Path(options.output))


def _deploy(options: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from flows.deploy import DeploySettings, deploy

    try:
        settings = DeploySettings()
    except ValidationError as error:
        fields = "; ".join(f"MATHQUARRY_{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors())
        raise MathQuarryError(f"settings of the deployment are missing or wrong: {fields}. docs/operations.md lists them.") from None
    for line in deploy(settings):
        print(line)


def _ledger(name: str):  # type: ignore[no-untyped-def]
    def call(options: argparse.Namespace) -> None:
        from flows import ledger

        getattr(ledger, name)(options)

    return call


if __name__ == "__main__":
    sys.exit(main())
