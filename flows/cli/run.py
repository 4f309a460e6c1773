"""Runs a recipe in this process, and prints its progress and results."""

from __future__ import annotations

import importlib
import os
import textwrap
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from typing import TYPE_CHECKING, Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.store import Store
from mathquarry.data.store.workspace import Progress
from mathquarry.flows.cli.server import embedded_server, quieten
from mathquarry.flows.cli.written import recipe_lines
from mathquarry.flows.recipe import Recipe
from mathquarry.models.experiments import Compared, Experiment

if TYPE_CHECKING:
    from mathquarry.flows.recorded_run import OnStage, Run
    from mathquarry.tasks.stage import StageResult


def run_embedded(recipe: Recipe, store_url: str, begin_at: str | None, rebuild: str | None, until: str | None = None) -> None:
    """Run `recipe` here, up to stage `until`, with an embedded Prefect server, and print the result of each stage."""

    def stages(run: Run) -> None:
        from mathquarry.flows.pipeline import run_pipeline

        run_pipeline(run, recipe)

    def start(url: str, on_stage: OnStage) -> Run:
        from mathquarry.flows.pipeline import pipeline

        return pipeline(recipe, url, begin_at, rebuild, on_stage, until)

    run = _embedded(recipe, store_url, stages, start, until, again=rebuild is not None)
    if any(made.stage == "evaluate" for made in run.produced.values()):
        print("\n" + run.accuracy())
    if "report" in run.produced:
        _print_opening(run)
    if "mine" in run.produced:
        _print_mining(run.produced["mine"].summary)
    _print_report(run)


def compare_embedded(recipe: Recipe, compared: Compared, store_url: str) -> None:
    """Compare reinforcement learning here, with an embedded Prefect server, and print the result of each stage."""

    def stages(run: Run) -> None:
        from mathquarry.flows.experiments.compare import side_by_side

        side_by_side(run, recipe, compared)

    def start(url: str, on_stage: OnStage) -> Run:
        from mathquarry.flows.experiments.compare import compare

        return compare(recipe, compared, url, on_stage)

    run = _embedded(recipe, store_url, stages, start)
    print("\n" + run.accuracy())
    _print_report(run)


def ablate_embedded(recipe: Recipe, experiment: Experiment, store_url: str) -> None:
    """Run a data experiment here, with an embedded Prefect server, and print the result of each stage."""

    def stages(run: Run) -> None:
        from mathquarry.flows.experiments.ablate import all_arms

        all_arms(run, recipe, experiment)

    def start(url: str, on_stage: OnStage) -> Run:
        from mathquarry.flows.experiments.ablate import ablate

        return ablate(recipe, experiment, url, on_stage)

    run = _embedded(recipe, store_url, stages, start)
    print()
    for line in arm_lines(run):
        print(line)
    _print_report(run)


def _embedded(
    recipe: Recipe,
    store_url: str,
    stages: Callable[[Run], None],
    start: Callable[[str, OnStage], Run],
    until: str | None = None,
    again: bool = False,
) -> Run:
    """Call `start` with the store's address and a running Prefect server. If all `stages` are in the store, no server is started.

    `again`: some stages must be rebuilt. Raises `MathQuarryError` before anything starts, if the run cannot succeed.
    """
    store = Store(store_url)
    store.root.mkdir(parents=True, exist_ok=True)
    # Stages get the store's absolute path, so that it is the same wherever they run.
    url = store_url if store.remote is not None else str(store.root)
    print(f"{recipe.name}: {recipe.description}".rstrip(": ") + f"\nstore: {url}")
    started = time.monotonic()
    # With PREFECT_API_URL set, the run appears in that server's UI. Otherwise an embedded server runs as long as the run.
    shared = os.environ.get("PREFECT_API_URL")
    home = store.root / "prefect"
    if not shared:
        quieten(home)
    from mathquarry.flows.preflight.planned import found_run, planned_run

    if not again and (found := found_run(recipe, url, stages, until)):
        for name, made in found.produced.items():
            print(_line(name, made))
        print(f"\nNothing to do: all {len(found.produced)} artifacts are in the store ({time.monotonic() - started:.0f} s).")
        return found
    from mathquarry.flows.preflight.check import check_here

    for note in check_here(planned_run(recipe, url, stages, until)):
        print(note)
    with nullcontext(shared) if shared else embedded_server(home, meanwhile=_import_stages):
        from prefect.context import refresh_global_settings_context
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        # Prefect read the environment when it was imported, before there was a server.
        refresh_global_settings_context()

        # Heartbeats tell a shared server that a run is alive. An embedded server does not need them, and each flow would wait for them.
        calm = nullcontext() if shared else temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with calm, closing(_Stages()) as shown:
            run = start(url, shown)
    seconds = time.monotonic() - started
    reused = sum(made.reused for made in run.produced.values())
    print(f"\n{len(run.produced) - reused} artifacts made, {reused} reused, in {_duration(seconds)}.")
    return run


def _import_stages() -> None:
    """Import modules for stages with a model, which takes seconds."""
    for name in ("train.pretrain", "train.sft", "reward.stage", "rl.grpo", "evaluate.evaluate"):
        importlib.import_module(f"mathquarry.models.{name}")


def _print_opening(run: Run) -> None:
    """Print the warnings and findings at the top of the report."""
    from mathquarry.data.report.build import make_opening
    from mathquarry.tasks.report import report_artifacts

    stages = {name: made.ref for name, made in run.produced.items() if made.stage != "report"}
    for line in make_opening(run.record("completed"), report_artifacts(run.store, stages)).lines:
        print("\n" + textwrap.fill(line, 110))
    print()


def _print_report(run: Run) -> None:
    print(f"\nrun:    {run.id}")
    store, last = Store(run.store), list(run.produced.values())[-1]
    if last.stage == "report":
        print(f"report: {store.folder('report', last.key) / 'report.html'}")
    else:
        print(f"{last.stage + ':':<7} {store.folder(last.stage, last.key)}")


class _Stages:
    """Shows which stage is running, and prints one line for each finished stage."""

    def __init__(self) -> None:
        self._at_work = ExitStack()

    def __call__(self, name: str, made: StageResult | None) -> None:
        if made is None:
            self._at_work.enter_context(Progress().track(name, 0))
            return
        self._at_work.close()
        print(_line(name, made))

    def close(self) -> None:
        """Stop showing a stage."""
        self._at_work.close()


def _line(name: str, made: StageResult) -> str:
    return f"{name:<14} {'in the store' if made.reused else _duration(made.seconds):>12}  {made.key}"


def arm_lines(run: Run) -> list[str]:
    """Return the arms of an experiment with their means over seeds, as a plain-text table."""
    from mathquarry.data.report.sections.experiments import arms_of, text_table
    from mathquarry.tasks.report import report_artifacts

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


def dry_run(recipe: Recipe, store_url: str, until: str | None = None, everything: bool = False) -> None:
    """Print the settings that differ from the defaults (or `everything`), the stages, their estimated cost, and what this machine lacks.

    Raises `MathQuarryError` if the run cannot succeed.
    """
    from mathquarry.flows.cli.plan import plan_lines
    from mathquarry.flows.pipeline import run_pipeline
    from mathquarry.flows.preflight.check import Preflight
    from mathquarry.flows.preflight.machine import machine_faults
    from mathquarry.flows.preflight.planned import planned_run

    planned = planned_run(recipe, store_url, lambda run: run_pipeline(run, recipe), until)
    notes = Preflight(planned).check()
    print(*recipe_lines(recipe, everything), sep="\n")
    print("\nstages: " + " -> ".join(planned.calls) + "\n")
    try:
        print(*plan_lines(recipe, "h100", store_url, planned), sep="\n")
    except MathQuarryError as unknown:
        print(unknown)
    print(*(["", *notes] if notes else []), sep="\n")
    if lacking := list(machine_faults(planned)):
        print("\nIt cannot run on this machine:", *lacking, sep="\n  ")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
