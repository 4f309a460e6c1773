"""Commands `report` and `watch`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mathquarry.flows.cli.commands.common import command, count

if TYPE_CHECKING:
    from mathquarry.flows.cli.commands.common import Commands


def register(commands: Commands) -> None:
    """Add this group's commands."""
    report = command(
        commands, "report", "Write a report of a recorded run, of an artifact with its inputs, or of several runs side by side."
    )
    report.add_argument(
        "of",
        nargs="*",
        metavar="RUN|ARTIFACT",
        help="ids of runs or their beginnings (several are shown side by side); or an artifact: its key or the beginning of it, a name "
        "in the latest run (grpo-2), or a stage (default: the latest run)",
    )
    report.add_argument("-o", "--output", default="report.html", help="file to write (default: %(default)s)")
    report.set_defaults(run=_report)
    watch = command(commands, "watch", "Serve the page of a running run, on this machine only. The page reloads by itself.")
    watch.add_argument("of", nargs="?", metavar="RUN", help="id of a run or the beginning of it (default: the latest run)")
    watch.add_argument("--port", type=count, default=8600, help="port of 127.0.0.1; 0 takes a free one (default: %(default)s)")
    watch.set_defaults(run=_watch)


def _report(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.pages import write_report

    write_report(options.store, options.of, Path(options.output))


def _watch(options: argparse.Namespace) -> None:
    from mathquarry.flows.cli.watch import watch

    watch(options.store, options.of, options.port)
