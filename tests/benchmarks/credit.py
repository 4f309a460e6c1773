"""Credit, reward and refresh over seeds, and the tables in docs/results.md: `make credit-table SEEDS="0 1 2 3 4"`.

    python -m tests.benchmarks.credit --store STORE SEED ...
    python -m tests.benchmarks.credit --weak --store STORE SEED ...

Runs `mathquarry compare tiny credit` with three iterations for all seeds. What is in the store already is reused, so a stopped command
continues where it was. The figures are written to credit.json, and the tables are made from them. `--weak` runs fewer combinations with a
reward model that is trained on few questions, and writes weak.json: where refreshing matters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mathquarry.data.report.page.blocks import Table
from mathquarry.data.report.page.source import Source
from mathquarry.data.report.sections.comparison import Spread
from mathquarry.data.report.sections.grid import ArmKey, GridArm, grid_of, place_of
from mathquarry.data.report.sections.grid_claims import GREEDY, ORDER, Claim, claims_of, verdicts_of
from mathquarry.data.report.sections.grid_section import EVERY, TABLE, every_iteration_table, last_iteration_table
from mathquarry.data.store.store import Store
from mathquarry.flows.cli.pages import stages_of
from mathquarry.tasks.report import report_artifacts
from tests.benchmarks.results import write_section

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
ITERATIONS = 3
NO_SOURCE = Source((), "")


@dataclass(frozen=True)
class Experiment:
    """A section of the page, with the fields that its runs set."""

    section: str
    fields: Sequence[str] = ()

    @property
    def figures(self) -> Path:
        """The file with its figures."""
        return Path(__file__).with_name(f"{self.section}.json")

    def command(self, seeds: Sequence[int]) -> list[str]:
        """Return the arguments of `mathquarry` that run the comparison."""
        fields = [f"iterations={ITERATIONS}", f"compare.seeds=[{','.join(map(str, seeds))}]", *self.fields]
        return ["compare", "tiny", "credit", *(part for field in fields for part in ("--set", field))]


CREDIT = Experiment("credit")
WEAK = Experiment("weak", ('compare.credits=["outcome","step-sum"]', 'compare.rewards=["process"]', "reward.questions=200"))

Arms = dict[ArmKey, GridArm]
Figures = dict[str, Any]
"""`revision`; `arms`: "credit+reward+model" -> metric -> iteration (0: the start) -> seed -> value."""


def read_credit(store: Store) -> tuple[Arms, str]:
    """Return the arms of the store's latest finished comparison, with processor time as their seconds, and the revisions that made them.

    Raises `StopIteration` if there is none.
    """
    finished = (run for run in reversed(store.runs()) if run["status"] == "completed")
    runs = (report_artifacts(store.url, stages_of(run)) for run in finished)
    artifacts = next(artifacts for artifacts in runs if grid_of(artifacts))
    manifests = [json.loads((artifact.path / "manifest.json").read_text(encoding="utf-8")) for artifact in artifacts]
    timed = [replace(artifact, seconds=manifest["usage"]["cpu_seconds"]) for artifact, manifest in zip(artifacts, manifests, strict=True)]
    made = {manifest["code"]["revision"][:7] for artifact, manifest in zip(artifacts, manifests, strict=True) if place_of(artifact)}
    return grid_of(timed), ", ".join(sorted(made))


def figures_of(arms: Arms, revision: str) -> Figures:
    """Return what credit.json keeps, rounded to what is shown."""
    kept = {
        "+".join(key): {
            metric: {
                str(iteration): {str(seed): round(value, 4) for seed, value in sorted(values.items())}
                for iteration, values in sorted(iterations.items())
                if values
            }
            for metric, iterations in arm.metrics.items()
        }
        for key, arm in arms.items()
    }
    return {"revision": revision, "arms": kept}


def arms_of(figures: Figures) -> Arms:
    """Return the arms again from what credit.json keeps."""
    arms: Arms = {}
    for name, metrics in figures["arms"].items():
        arm = arms.setdefault(ArmKey(*name.split("+")), GridArm())
        for metric, iterations in metrics.items():
            for iteration, values in iterations.items():
                arm.metrics[metric][int(iteration)] = {int(seed): value for seed, value in values.items()}
    return arms


def lines_of(figures: Figures, experiment: Experiment = CREDIT) -> list[str]:
    """Return the section of docs/results.md."""
    arms = arms_of(figures)
    seeds = sorted({seed for arm in arms.values() for seed in arm.metrics[GREEDY][1]})
    claims = claims_of(arms)
    start = next(iter(next(iter(arms.values())).metrics[GREEDY][0].values()))
    return [
        f"`mathquarry {' '.join(map(_quoted, experiment.command(seeds)))}`, revision {figures['revision']}, {len(seeds)} seeds. Means over "
        "seeds ± one standard error; 500 held-out questions.",
        "",
        f"{TABLE}. At the start, after fine-tuning, it is {100 * start:.1f} %.",
        "",
        *_markdown(last_iteration_table(arms, NO_SOURCE)),
        "",
        "Orderings, paired by seed, with a t-test over seeds (p < 0.05):",
        "",
        *_verdicts(claims),
        "",
        "Largest differences of each ordering, in points:",
        "",
        *_differences(claims),
        "",
        f"{EVERY}. AUC is that of the reward model against the answer checker on the completions that the policy "
        "is trained on. Time is processor time, of the iteration, its evaluation, and the reward model's refresh.",
        "",
        *_markdown(every_iteration_table(arms, NO_SOURCE)),
    ]


def _quoted(argument: str) -> str:
    return f"'{argument}'" if "[" in argument else argument


def _verdicts(claims: Sequence[Claim]) -> list[str]:
    lines = ["| ordering | from | comparisons | verdicts | mean of all, points | its verdict |", "|---|---|---|---|---|---|"]
    for text in ORDER:
        mine = [claim for claim in claims if claim.text == text]
        if mine:
            verdicts = ", ".join(f"{verdict} in {number}" for verdict, number in verdicts_of(mine).items())
            by_seed = zip(*(claim.differences for claim in mine), strict=True)
            together = replace(mine[0], differences=tuple(sum(seed) / len(mine) for seed in by_seed))
            lines.append(f"| {text} | {mine[0].source} | {len(mine)} | {verdicts} | {together.points} | {together.verdict} |")
    return lines


def _differences(claims: Sequence[Claim]) -> list[str]:
    lines = ["| ordering | better | worse | difference | verdict |", "|---|---|---|---|---|"]
    for text in ORDER:
        mine = sorted((claim for claim in claims if claim.text == text), key=lambda claim: -abs(Spread.of(claim.differences).mean))
        for claim in mine[:2]:
            lines.append(f"| {text} | {claim.better.words} | {claim.worse.words} | {claim.points} | {claim.verdict} |")
    return lines


def _markdown(table: Table) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (table.headers, ["---"] * len(table.headers), *table.rows)]


def main() -> None:
    """Run the comparison, and write its figures and tables."""
    parser = argparse.ArgumentParser(description="Compare credit, reward and refresh over seeds, and rewrite the tables.")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--weak", action="store_true", help="fewer combinations, with a weaker reward model")
    options = parser.parse_args()
    experiment = WEAK if options.weak else CREDIT
    command = [sys.executable, "-m", "mathquarry.flows", *experiment.command(options.seeds), "--store", str(options.store)]
    subprocess.run(command, check=True)
    figures = figures_of(*read_credit(Store(str(options.store))))
    experiment.figures.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write_section(experiment.section, lines_of(figures, experiment), PAGE)


if __name__ == "__main__":
    main()
