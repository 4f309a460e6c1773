"""The demo over seeds, and its tables in README.md and RESULTS.md: `make demo-table SEEDS="0 1 2"`.

    python -m tests.benchmarks.demo --store STORE SEED ...

Each seed is a run of `tiny`, started as `make demo` does. A seed that is in the store already takes seconds, so a stopped command continues
where it was. The results are added to demo.json, which keeps other seeds, and the tables are made from all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from mathquarry.data.report.runs.run_differences import ComparedRun
from mathquarry.data.report.runs.seeds import read_seeds
from mathquarry.data.report.sections.comparison import Spread
from mathquarry.data.report.sections.policies import in_prose
from mathquarry.data.store.store import Store
from mathquarry.flows.cli.pages import stages_of
from mathquarry.tasks.report import report_artifacts
from tests.benchmarks.results import write_section

FIGURES = Path(__file__).with_name("demo.json")
README = Path(__file__).parents[2] / "README.md"
SECTION = "demo"
SHOWN = ("Greedy", "Pass@1", "Pass@8", "Maj@8")
ORDERED = ("Greedy", "Maj@8")
"""Scores that should rise from each policy to the next."""

Figures = dict[str, dict[str, Any]]
"""By seed: `revision`, `minutes` of all stages (none: the machine did other work too), and `scores` (metric -> policy -> share of the
questions)."""
BUSY = 1.0
"""Load from which a machine does other work too."""


def run_demo(seed: int, store: Path) -> None:
    """Run the demo with a seed. Raises `CalledProcessError` if it fails."""
    command = [sys.executable, "-m", "mathquarry.flows", "run", "tiny", "--store", str(store), "--set", f"seed={seed}"]
    subprocess.run(command, check=True)


def read_demo(seed: int, store: Store, revision: str, quiet: bool) -> dict[str, Any]:
    """Return the figures of the latest finished demo with this seed, without its time unless the machine was `quiet`.

    Raises `StopIteration` if there is no such demo.
    """
    mine = (run for run in reversed(store.runs()) if run["config"].get("seed") == seed)
    record = next(run for run in mine if run["recipe"] == "tiny" and run["status"] == "completed")
    artifacts = report_artifacts(store.url, stages_of(record))
    (one,) = read_seeds([ComparedRun("A", record, artifacts)])
    minutes = sum(artifact.seconds for artifact in artifacts) / 60
    return {"revision": revision, "minutes": round(minutes, 1) if quiet else None, "scores": {name: one.scores[name] for name in SHOWN}}


def rises(scores: Mapping[str, float]) -> bool:
    """Return whether a score rises from each policy to the next."""
    return all(before < after for before, after in pairwise(scores.values()))


def summary_lines(figures: Figures) -> list[str]:
    """Return the section of README.md: how often the scores rise, and a table of the means over seeds."""
    seeds = sorted(figures, key=int)
    policies = list(figures[seeds[0]]["scores"]["Greedy"])
    minutes = [figures[seed]["minutes"] for seed in seeds if figures[seed]["minutes"] is not None]
    revisions = sorted({figures[seed]["revision"] for seed in seeds})
    counts = [f"{name.lower() if name == 'Greedy' else name} in {_rising(figures, name)}" for name in ORDERED]
    lines = [
        f"Scores rise at every step, from the base model over SFT to each RL iteration: {' and '.join(counts)} of {len(seeds)} seeds.",
        "The table shows means over the seeds in percent, ± one standard error over seeds, and the lowest and the highest seed.",
        f"Revision {', '.join(revisions)}.{_took(minutes)}",
        "Scores of the same seed differ between machines and numbers of threads, because sums of floating-point numbers do.",
        f'`make demo-table SEEDS="{" ".join(seeds)}"` runs the demo for each seed and rewrites this section.',
        "",
        "| policy | greedy | lowest to highest | Pass@1 | Pass@8 | Maj@8 |",
        "|---|---|---|---|---|---|",
    ]
    for policy in policies:
        greedy, *others = ([figures[seed]["scores"][name][policy] for seed in seeds] for name in SHOWN)
        cells = [_spread(greedy), f"{_percent(min(greedy))} to {_percent(max(greedy))}", *map(_spread, others)]
        lines.append(f"| {in_prose(policy)} | {' | '.join(cells)} |")
    return lines


def table_lines(figures: Figures) -> list[str]:
    """Return the section of RESULTS.md: that of README.md, and a table of every seed."""
    seeds = sorted(figures, key=int)
    lines = [*summary_lines(figures), "", f"| greedy / Maj@8 by seed | {' | '.join(seeds)} |", "|---|" + "---|" * len(seeds)]
    for policy in figures[seeds[0]]["scores"]["Greedy"]:
        pairs = (" / ".join(_percent(figures[seed]["scores"][name][policy]) for name in ORDERED) for seed in seeds)
        lines.append(f"| {in_prose(policy)} | {' | '.join(pairs)} |")
    return lines


def _took(minutes: list[float]) -> str:
    if not minutes:
        return ""
    return f" On a machine that did nothing else, the stages of a run took {min(minutes):.1f} to {max(minutes):.1f} minutes."


def _rising(figures: Figures, metric: str) -> int:
    return sum(rises(one["scores"][metric]) for one in figures.values())


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _spread(shares: list[float]) -> str:
    spread = Spread.of(shares)
    return _percent(spread.mean) + (f" ± {_percent(spread.error)}" if spread.seeds > 1 else "")


def main() -> None:
    """Run the demo for each seed, and write its figures and the table."""
    parser = argparse.ArgumentParser(description="Run the demo for each seed, and rewrite the table of all seeds.")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--store", type=Path, default=Path("store"))
    options = parser.parse_args()
    quiet = os.getloadavg()[0] < BUSY
    revision = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for seed in options.seeds:
        run_demo(seed, options.store)
        figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        figures[str(seed)] = read_demo(seed, Store(str(options.store)), revision, quiet)
        FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        write_section(SECTION, table_lines(figures))
        write_section(SECTION, summary_lines(figures), README)


if __name__ == "__main__":
    main()
