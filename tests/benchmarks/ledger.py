"""Time of queries in a ledger of a million artifacts and ten million metrics, and of rebuilding one from a hundred thousand manifests.

    python -m tests.benchmarks.ledger [--runs 50000] [--manifests 100000] [--repeats 5] [--write]

Everything is generated in a temporary folder (about 3 GB) by `ledger_made.py` and deleted at the end. Each question is asked by the code
that the command line runs, with its printing, and opens the ledger's file anew; starting Python is not counted. Processor time is that of
all threads: on a machine that is shared it says what a quiet one would need, at most. `--write` rewrites the section of RESULTS.md.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.ledger.lineage import graph
from mathquarry.data.ledger.rows import TABLES
from mathquarry.data.ledger.sql import affected, ask
from mathquarry.data.store.store import Artifact, Store
from mathquarry.flows.__main__ import main as command_line
from mathquarry.flows.served.flows import newest_run
from tests.benchmarks.__main__ import machine
from tests.benchmarks.ledger_made import FAMILY, STAGE_SECONDS, fill_ledger, key_of, run_name, write_manifests
from tests.benchmarks.results import write_section


class _Printed(io.StringIO):
    """Standard output that the command line may reconfigure."""

    def reconfigure(self, **options: Any) -> None:
        """Nothing to do in memory."""


def command(store: Store, *arguments: str) -> int:
    """Run a command on the store; returns the number of lines that it printed."""
    with redirect_stdout(_Printed()) as printed:
        status = command_line([*arguments, "--store", str(store.root)])
    assert status == 0, arguments
    return len(printed.getvalue().splitlines())


def questions(store: Store, runs: int) -> dict[str, Callable[[], int]]:
    """The queries by interface; each returns the size of its answer."""
    ledger = Ledger(store)
    middle = runs // 2
    policy, report, problems, page = (
        key_of(name, run) for name, run in (("grpo-3", middle), ("report", runs - 1), ("problems", middle), ("mine", middle))
    )

    def asked(sql: str) -> Callable[[], int]:
        return lambda: len(ask(ledger, sql, 100).rows)

    return {
        "`ledger ls`": lambda: command(store, "ledger", "ls"),
        "`ledger ls --stage grpo`": lambda: command(store, "ledger", "ls", "--stage", "grpo"),
        "`ledger ls --runs`": lambda: command(store, "ledger", "ls", "--runs"),
        "`ledger show`, by the beginning of a key": lambda: command(store, "ledger", "show", policy[:12]),
        "`ledger show grpo-2`, in the newest run": lambda: command(store, "ledger", "show", "grpo-2"),
        "`ledger lineage` of a policy of the third iteration": lambda: command(store, "ledger", "lineage", policy),
        "`Ledger.lineage` of a report, the whole of a run": lambda: len(ledger.lineage(report)),
        "graph of what made a report": lambda: len(graph(ledger, report).artifacts),
        f"graph of what was made from a problem set of {FAMILY} runs": lambda: len(graph(ledger, problems, "down").artifacts),
        "graph of a policy, both ways": lambda: len(graph(ledger, policy, "both").artifacts),
        f"`descendants` of a corpus of {FAMILY} runs": lambda: len(ledger.descendants(page)),
        "`ledger affected --site`, in one corpus": lambda: len(affected(ledger, "site", f"site-{middle // FAMILY}.example")),
        "SQL: scores of every policy, newest 100": asked(
            "select created, key, summary->>'greedy' as greedy from artifacts where stage = 'evaluate' order by created desc"
        ),
        "SQL: where the time of all runs went": asked(
            "select stage, count(*) as artifacts, sum(seconds) / 60 as minutes from artifacts group by stage order by minutes desc"
        ),
        "SQL: the learning curve of a policy": asked(
            f"select step, value from metrics where name = 'loss' and key like '{policy[:8]}%' order by step"
        ),
        "SQL: edges between stages": asked("select input_stage, stage, count(*) from edges group by all order by all"),
        "report: the newest run and its record": lambda: len(store.run(ledger.newest_run() or "")["stages"]),
        "report: the record of a run by its id": lambda: len(store.run(run_name(middle))["stages"]),
        "next iteration: the newest finished run": lambda: len(newest_run(store, None)["stages"]),
    }


def timed(what: Callable[[], int], repeats: int) -> str:
    """Median and longest seconds, median processor seconds, and the size of the answer, as cells of a row."""
    taken, worked = [], []
    for _ in range(repeats):
        begun, at_work = time.perf_counter(), time.process_time()
        size = what()
        taken.append(time.perf_counter() - begun)
        worked.append(time.process_time() - at_work)
    return f"{statistics.median(taken):.3f} | {max(taken):.3f} | {statistics.median(worked):.3f} | {size:,}"


def ask_all(store: Store, runs: int, repeats: int) -> list[str]:
    """Lines about a filled ledger."""
    fill_ledger(store, runs)
    counts = {table: Ledger(store).query(f"select count(*) as rows from {table}")[0]["rows"] for table in TABLES}
    size = store.ledger_path.stat().st_size
    lines = [
        f"{counts['artifacts']:,} artifacts, {counts['inputs']:,} edges, {counts['metrics']:,} metrics, {counts['runs']:,} runs; "
        f"{size / 1e6:,.0f} MB.",
        "",
        "| question | median, s | longest, s | processor, s | rows or lines |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, what in questions(store, runs).items():
        lines.append(f"| {name} | {timed(what, repeats)} |")
        print(lines[-1], flush=True)
    artifact = Artifact(store.folder("sft", "f" * 20), _new_manifest())
    return [*lines, f"| a stage records its artifact | {timed(lambda: Ledger(store).record(artifact) or 1, repeats)} |"]


def _new_manifest() -> dict[str, Any]:
    return {
        "key": "f" * 20,
        "stage": "sft",
        "version": 1,
        "created": "2026-11-21T00:00:00Z",
        "seconds": float(STAGE_SECONDS),
        "files": [],
        "config": {},
        "summary": {},
        "code": {"version": "0.1.0", "revision": "0"},
        "inputs": {"base": key_of("pretrain", 0), "examples": key_of("curate", 0)},
        "sources": [],
    }


def rebuild(store: Store, count: int) -> list[str]:
    """Lines about a ledger made from manifests: the first time, again over its old rows, and when little is missing."""
    written = write_manifests(store, count)
    ledger = Ledger(store)
    lines = [
        "",
        f"From {written:,} manifests, with the metrics of those that train:",
        "",
        "| | seconds | processor, s | rows |",
        "|---|---:|---:|---:|",
    ]

    def row(name: str, work: Callable[[], int]) -> None:
        begun, at_work = time.perf_counter(), time.process_time()
        made = work()
        lines.append(f"| {name} | {time.perf_counter() - begun:.1f} | {time.process_time() - at_work:.1f} | {made:,} |")
        print(lines[-1], flush=True)

    row("`ledger sync` without a ledger", lambda: sum(ledger.sync().rows.values()))
    row("`ledger sync` over the ledger that is there", lambda: sum(ledger.sync().rows.values()))
    with ledger.connect() as connection:
        newest = [key for (key,) in connection.execute("select key from artifacts order by created desc limit 20").fetchall()]
        for table in ("artifacts", "inputs", "sources", "metrics"):
            connection.execute(f"delete from {table} where key in (select unnest(?))", [newest])
    row("a run's end, when 20 artifacts are not in the ledger", ledger.catch_up)
    return lines


def main() -> None:
    """Measure, print, and write the section if told to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50_000, help="runs in the ledger, twenty artifacts each")
    parser.add_argument("--manifests", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="rewrite the section of RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mathquarry-ledger-") as folder:
        lines = ask_all(Store(Path(folder) / "asked"), options.runs, options.repeats)
        shutil.rmtree(Path(folder) / "asked")
        lines += rebuild(Store(Path(folder) / "rebuilt"), options.manifests)
    given = "".join(
        f" --{name} {value}" for name in ("runs", "manifests", "repeats") if (value := getattr(options, name)) != parser.get_default(name)
    )
    head = (
        f"`python -m tests.benchmarks.ledger{given}`, {date.today():%-d %B %Y}, {machine()}; median of {options.repeats} runs, "
        f"load {os.getloadavg()[0]:.1f} at the end."
    )
    lines = [head, "", *lines]
    print("\n".join(lines))
    if options.write:
        write_section("ledger", lines)


if __name__ == "__main__":
    main()
