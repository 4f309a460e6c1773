"""A pretrained model that learns on two cores, and its tables in docs/results.md: `make smollm-table SEEDS="0 1"`.

    make vllm smollm
    python -m tests.benchmarks.smollm --store STORE SEED ...

Each seed is a run of recipe `words`. What is in the store already is reused, so a stopped command continues where it was. The figures are
added to smollm.json, which keeps other seeds, and the tables are made from all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from mathquarry.data.report.page.artifact import ReportArtifact, joined, of_stage, series
from mathquarry.data.report.page.scores import Score, read_lenient_scores, read_scores
from mathquarry.data.report.sections.paired import differences, evaluations_by_label
from mathquarry.data.report.sections.policies import evaluations, in_prose
from mathquarry.data.store.store import Store
from mathquarry.flows.cli.pages import stages_of
from mathquarry.tasks.report import report_artifacts
from tests.benchmarks.results import write_section

FIGURES = Path(__file__).with_name("smollm.json")
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
SECTION = "smollm"
RECIPE = "words"
CURVE = {"accuracy": "correct, %", "kl": "KL, nats per token", "completion_tokens": "tokens"}
"""Metrics of GRPO's steps, and their headings."""
CURVE_STEPS = 5
"""Steps in a row of the curve's table."""

Figures = dict[str, dict[str, Any]]
"""By seed: `revision`, `questions`, `scores` (policy -> score -> value and standard error), `changes` (of greedy accuracy: "SFT, RL 1" ->
value, standard error, questions gained and lost), `curve` (metric -> values by step) and `minutes` (artifact -> minutes)."""


def run_words(seed: int, store: Path) -> None:
    """Run the recipe with a seed. Raises `CalledProcessError` if it fails."""
    command = [sys.executable, "-m", "mathquarry.flows", "run", RECIPE, "--store", str(store), "--set", f"seed={seed}"]
    subprocess.run(command, check=True)


def read_words(seed: int, store: Store) -> dict[str, Any]:
    """Return the figures of the latest finished run with this seed. Raises `StopIteration` if there is none."""
    mine = (run for run in reversed(store.runs()) if run["config"].get("seed") == seed)
    record = next(run for run in mine if run["recipe"] == RECIPE and run["status"] == "completed")
    return figures_of(report_artifacts(store.url, stages_of(record)))


def figures_of(artifacts: Sequence[ReportArtifact]) -> dict[str, Any]:
    """Return what smollm.json keeps of a run."""
    policies = evaluations(artifacts)
    by_label = evaluations_by_label(artifacts)
    labels = list(by_label)
    changes = {}
    for before, after in [*pairwise(labels), *([(labels[1], labels[-1])] if len(labels) > 3 else [])]:
        greedy = differences(by_label[before], by_label[after])["Greedy"]
        changes[f"{before}, {after}"] = [_kept(greedy.value), _kept(greedy.error), greedy.gained, greedy.lost]
    records, _ = joined(of_stage(artifacts, "grpo"))
    made = {json.loads((artifact.path / "manifest.json").read_text(encoding="utf-8"))["code"]["revision"][:7] for artifact in artifacts}
    return {
        "revision": ", ".join(sorted(made)),
        "questions": next(iter(by_label.values())).scores.questions,
        "scores": {label: _scores(artifact) for label, artifact in policies},
        "changes": changes,
        "curve": {metric: [_kept(value) for value in series(records, metric)[1]] for metric in CURVE},
        "minutes": {artifact.name: round(artifact.seconds / 60, 1) for artifact in artifacts},
    }


def _scores(artifact: ReportArtifact) -> dict[str, list[float | None]]:
    found = {name: [_kept(score.value), _kept(score.error)] for name, score in read_scores(artifact.summary).columns().items()}
    lenient = read_lenient_scores(artifact.summary)
    assert lenient is not None, "every evaluation of this version reads answers leniently too"
    return {"Greedy": found.pop("Greedy"), "Greedy, lenient": [_kept(lenient.greedy.value), _kept(lenient.greedy.error)], **found}


def _kept(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def lines_of(figures: Figures) -> list[str]:
    """Return the section of docs/results.md."""
    seeds = sorted(figures, key=int)
    first = figures[seeds[0]]
    revisions = sorted({figures[seed]["revision"] for seed in seeds})
    minutes = [sum(figures[seed]["minutes"].values()) for seed in seeds]
    return [
        f'`make smollm-table SEEDS="{" ".join(seeds)}"`, revision {", ".join(revisions)}; {first["questions"]} held-out questions, in '
        f"percent, ± one standard error over questions. A seed took {' and '.join(f'{one:.0f}' for one in minutes)} minutes.",
        "",
        f"| seed | policy | {' | '.join(first['scores']['SFT'])} |",
        "|---|---|" + "---|" * len(first["scores"]["SFT"]),
        *(
            f"| {seed} | {in_prose(label)} | {' | '.join(_score(*score) for score in scores.values())} |"
            for seed in seeds
            for label, scores in figures[seed]["scores"].items()
        ),
        "",
        "Changes of greedy accuracy in points, paired by question; *gained* questions only the second policy answers correctly, *lost* "
        "only the first.",
        "",
        "| from | to | " + " | ".join(f"seed {seed} | gained, lost" for seed in seeds) + " | mean |",
        "|---|---|" + "---|---|" * len(seeds) + "---|",
        *(_change(pair, [figures[seed]["changes"][pair] for seed in seeds]) for pair in first["changes"]),
        "",
        f"GRPO's steps, means of {CURVE_STEPS} steps; *correct* are the completions that the steps trained on, sampled at temperature 1.",
        "",
        "| steps | " + " | ".join(f"seed {seed}: {heading}" for seed in seeds for heading in CURVE.values()) + " |",
        "|---|" + "---|" * len(seeds) * len(CURVE),
        *_curve([figures[seed]["curve"] for seed in seeds]),
        "",
        f"| minutes of | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        "|---|" + "---|" * len(seeds),
        *(f"| {name} | {' | '.join(str(figures[seed]['minutes'].get(name, '–')) for seed in seeds)} |" for name in first["minutes"]),
    ]


def _score(value: float, error: float | None) -> str:
    return str(Score(value, error)).removesuffix(" %")


def _change(pair: str, changes: Sequence[Sequence[Any]]) -> str:
    before, after = pair.split(", ")
    cells = [cell for value, error, gained, lost in changes for cell in (f"{100 * value:+.1f} ± {100 * error:.1f}", f"{gained}, {lost}")]
    mean, spread = fmean(change[0] for change in changes), math.hypot(*(change[1] for change in changes)) / len(changes)
    return f"| {in_prose(before)} | {in_prose(after)} | {' | '.join(cells)} | {100 * mean:+.1f} ± {100 * spread:.1f} |"


def _curve(curves: Sequence[dict[str, list[float]]]) -> list[str]:
    rows = []
    count = len(curves[0]["accuracy"])
    for begin in range(0, count, CURVE_STEPS):
        steps = range(begin, min(begin + CURVE_STEPS, count))
        means = [(metric, fmean(curve[metric][step] for step in steps)) for curve in curves for metric in CURVE]
        cells = [f"{100 * mean:.1f}" if metric == "accuracy" else f"{mean:.3g}" for metric, mean in means]
        rows.append(f"| {steps[0] + 1} to {steps[-1] + 1} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Run the recipe for each seed, and write its figures and the tables."""
    parser = argparse.ArgumentParser(description="Run recipe `words` for each seed, and rewrite the tables of all seeds.")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--store", type=Path, default=Path("store"))
    options = parser.parse_args()
    for seed in options.seeds:
        run_words(seed, options.store)
        figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        figures[str(seed)] = read_words(seed, Store(str(options.store)))
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        write_section(SECTION, lines_of(figures), PAGE)


if __name__ == "__main__":
    main()
