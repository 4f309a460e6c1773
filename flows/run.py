"""Running a recipe in this process, and what is printed about it."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from data.store import Store
from flows.plan import plan_lines
from flows.recipe import Recipe
from flows.server import embedded_server
from flows.stages import STAGES
from models.experiments import Compared, Experiment

if TYPE_CHECKING:
    from flows.pipeline import Run
    from tasks.stage import Produced


def run_embedded(recipe: Recipe, store_url: str, begin_at: str | None, force: str | None) -> None:
    """Run `recipe` here, with a Prefect server of its own, and print what each stage did."""

    def start(url: str) -> Run:
        from flows.pipeline import pipeline

        return pipeline(recipe, url, begin_at, force, _announce)

    run = _embedded(recipe, store_url, start)
    print("\n" + accuracy(run.produced))
    _print_mining(run.produced["mine"].summary)
    _print_report(run)


def compare_embedded(recipe: Recipe, compared: Compared, store_url: str) -> None:
    """Compare reinforcement learning here, with a Prefect server of its own, and print what each stage did."""

    def start(url: str) -> Run:
        from flows.compare import compare

        return compare(recipe, compared, url, _announce)

    run = _embedded(recipe, store_url, start)
    print("\n" + accuracy(run.produced))
    _print_report(run)


def ablate_embedded(recipe: Recipe, experiment: Experiment, store_url: str) -> None:
    """Run an experiment about training data here, with a Prefect server of its own, and print what each stage did."""

    def start(url: str) -> Run:
        from flows.ablate import ablate

        return ablate(recipe, experiment, url, _announce)

    run = _embedded(recipe, store_url, start)
    print()
    for line in arm_lines(run):
        print(line)
    _print_report(run)


def _embedded(recipe: Recipe, store_url: str, start: Callable[[str], Run]) -> Run:
    """Call `start` with the store's address and a Prefect server at hand."""
    store = Store(store_url)
    store.root.mkdir(parents=True, exist_ok=True)
    # Every artifact goes through an absolute path, so that stages agree on the store wherever they run.
    url = store_url if store.remote is not None else str(store.root)
    print(f"{recipe.name}: {recipe.description}\nstore: {url}")
    started = time.monotonic()
    # With PREFECT_API_URL set, the run shows in that server's UI; otherwise a server of its own comes and goes with it.
    shared = os.environ.get("PREFECT_API_URL")
    with nullcontext(shared) if shared else embedded_server(store.root / "prefect", meanwhile=_import_stages):
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.inputs import check_inputs

        check_inputs(recipe)

        # Heartbeats tell a shared server that a run is alive; without one, every flow would only wait a second for them.
        with nullcontext() if shared else temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            run = start(url)
    seconds = time.monotonic() - started
    reused = sum(made.reused for made in run.produced.values())
    if reused == len(run.produced):
        print(f"\nNothing to do: all {reused} artifacts of this recipe are in the store ({seconds:.0f} s).")
    else:
        print(f"\n{len(run.produced) - reused} artifacts made, {reused} reused, in {_duration(seconds)}.")
    return run


def _import_stages() -> None:
    """Import what stages with a model need, which takes seconds too."""
    for name in ("pretrain", "sft", "reward_stage", "rl.grpo", "evaluate"):
        importlib.import_module(f"models.{name}")


def _print_report(run: Run) -> None:
    print(f"\nrun:    {run.id}")
    print(f"report: {Store(run.store).folder('report', run.produced['report'].key) / 'report.html'}")


def _announce(name: str, made: Produced | None) -> None:
    if made is None:
        # A terminal's line is written over when the stage is there; in a log each stage gets one line, its result.
        if sys.stdout.isatty():
            print(f"{name:<14} ...", end="\r", flush=True)
    elif made.reused:
        print(f"{name:<14} in the store  {made.key}")
    else:
        print(f"{name:<14} {_duration(made.seconds):>12}  {made.key}")


def accuracy(produced: dict[str, Produced]) -> str:
    """The policies' scores as a table in plain text."""
    from data.report.text import accuracy_table

    names = {"evaluate-base": "base", "evaluate-sft": "SFT"}
    rows = [
        (names.get(name, name.replace("evaluate-rl-", "RL iteration ")), made.summary)
        for name, made in produced.items()
        if name.startswith("evaluate-")
    ]
    return accuracy_table(rows)


def arm_lines(run: Run) -> list[str]:
    """The arms of an experiment with their seeds' means, as a table in plain text."""
    from data.report.experiments import arms_of, text_table
    from tasks.report import report_artifacts

    stages = {name: made.ref for name, made in run.produced.items() if made.stage != "report"}
    return text_table(arms_of(report_artifacts(run.store, stages)))


def _print_mining(summary: dict[str, Any]) -> None:
    planted = [
        ("contaminated pages", "planted_contaminated", "removed_contaminated"),
        ("near-duplicates", "planted_near_duplicates", "removed_near_duplicates"),
        ("repeated captures", "planted_url_duplicates", "removed_url_duplicates"),
    ]
    for what, there, gone in planted:
        if there in summary:
            print(f"{what}: {summary[there]} planted, {summary[gone]} removed")


def dry_run(recipe: Recipe) -> None:
    """Print the resolved recipe, the stages, and what each is estimated to cost."""
    print(json.dumps(recipe.model_dump(mode="json"), indent=2, ensure_ascii=False))
    print("\nstages: " + " -> ".join(STAGES))
    print()
    for line in plan_lines(recipe, "h100", 8):
        print(line)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
