"""Commands that query the ledger: `why`, `domains`, `ledger ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from mathquarry.flows.cli.commands.common import command, count
from mathquarry.flows.stages.registry import STAGES

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands


def register(commands: Commands) -> None:
    """Add this group's commands."""
    why = command(commands, "why", "Explain why a page is in a corpus or not: round, score, or the rule that dropped it.")
    why.add_argument("url", help="address of the page, in any spelling")
    why.add_argument("--corpus", default="mine", metavar="ARTIFACT", help="key or its beginning (default: the latest corpus)")
    why.set_defaults(run=_ledger("why"))

    domains = command(
        commands, "domains", "Print a corpus's domain table, largest expected gain first, or write an annotation file from it."
    )
    domains.add_argument("artifact", nargs="?", default="mine", help="key of a corpus or its beginning (default: the latest corpus)")
    domains.add_argument("--limit", type=count, default=40, metavar="N", help="number of hosts to print (default: %(default)s)")
    domains.add_argument(
        "--toml", metavar="FILE", help="instead of printing, write the paths of mathematical domains to an annotation file, or add to it"
    )
    domains.set_defaults(run=_ledger("domains"))

    _register_ledger(
        commands.add_parser("ledger", help="List, trace and verify artifacts.").add_subparsers(required=True, metavar="COMMAND")
    )


def _register_ledger(ledger: Commands) -> None:
    listing = command(ledger, "ls", "List artifacts, or runs.")
    listing.add_argument("--stage", choices=list(STAGES), help="only this stage")
    listing.add_argument("--runs", action="store_true", help="list runs instead")
    listing.add_argument("--limit", type=count, default=100, metavar="N", help="only the latest N (default: %(default)s; 0: all)")
    listing.set_defaults(run=_ledger("list_artifacts"))
    for name, purpose in (("show", "Show one artifact."), ("lineage", "Show what made an artifact, down to files, config and code.")):
        one = command(ledger, name, purpose)
        one.add_argument("artifact", help="key or its beginning, a name in the latest run (grpo-2), or a stage (its latest artifact)")
        one.set_defaults(run=_ledger(name))
    one.add_argument(
        "--direction", choices=["up", "down", "both"], default="up", help="its inputs (up), what was made from it (down), or both"
    )
    one.add_argument("--json", action="store_true", help="print the graph as JSON")
    one.add_argument("-o", "--output", metavar="FILE.svg", help="write the graph as an SVG file instead")
    sql = command(ledger, "sql", "Run a read-only SQL query. docs/ledger.md lists the views.")
    sql.add_argument("query", help='for example "select stage, count(*) from artifacts group by stage"')
    sql.add_argument("--limit", type=count, default=100, metavar="N", help="rows to print (default: %(default)s; 0: all)")
    sql.add_argument("--json", action="store_true", help="print one JSON object per row")
    sql.set_defaults(run=_ledger("sql"))
    affected = command(ledger, "affected", "List every artifact that contains a site, page or problem, or was made from one that does.")
    what = affected.add_mutually_exclusive_group(required=True)
    what.add_argument("--site", metavar="HOST", help="pages of a host and its subdomains")
    what.add_argument("--url", help="a page, with its address as in the corpus")
    what.add_argument("--problem", metavar="ID", help="a problem")
    affected.set_defaults(run=_ledger("affected"))
    command(ledger, "sync", "Rebuild the ledger from the artifacts' manifests.").set_defaults(run=_ledger("sync"))
    command(ledger, "verify", "Check every artifact's files against its manifest.").set_defaults(run=_ledger("verify"))
    gc = command(ledger, "gc", "Find artifacts that no recorded run uses, and leftovers of interrupted work.")
    gc.add_argument("--keep-runs", type=count, metavar="N", help="keep only artifacts of the latest N completed runs and of running ones")
    gc.add_argument("--older-than", type=count, default=24, metavar="HOURS", help="keep artifacts newer than this (default: 24)")
    gc.add_argument("--delete", action="store_true", help="delete them after asking (default: only list them)")
    gc.add_argument("--yes", action="store_true", help="delete them without asking")
    gc.set_defaults(run=_ledger("collect_garbage"))


def _ledger(name: str) -> Callable[[argparse.Namespace], None]:
    def call(options: argparse.Namespace) -> None:
        from mathquarry.flows.cli import ledger

        getattr(ledger, name)(options)

    return call
