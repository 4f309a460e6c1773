"""Plans a run: which stages it would have, with which arguments. It runs the same code with a `Run` that only notes stages."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefect import Flow

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.stages.registry import stage_of
from mathquarry.flows.stages.stage import find_artifact
from mathquarry.tasks.stage import StageResult

logger = logging.getLogger("mathquarry")

Stages = Callable[[Run], None]
"""Calls a run's stages in order."""


@dataclass
class PlannedRun(Run):
    """A run that makes nothing. `calls` has the name of each stage, and its arguments after the store's address."""

    calls: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def stage(self, name: str, stage_flow: Flow[..., StageResult], *arguments: Any) -> str:
        """Note the stage. Returns a placeholder reference."""
        self.calls[name] = arguments
        self.produced[name] = StageResult(f"{stage_of(stage_flow.name)}/{name}", True, 0.0, {})
        return self.produced[name].ref

    @property
    def stages(self) -> frozenset[str]:
        """The stages of the run. A stage that the run has several times, such as `evaluate`, is in it once."""
        return frozenset(made.stage for made in self.produced.values())

    def includes(self, row: str) -> bool:
        """Whether a row of the plan is about this run. All evaluations are in one row; other rows are named like the run's stages."""
        return "evaluate" in self.stages if row == "evaluate" else row in self.calls

    def save(self, status: str) -> None:
        """Record nothing."""


class FoundRun(Run):
    """A run that only uses artifacts in the store. Raises `LookupError` at the first missing one."""

    def stage(self, name: str, stage_flow: Flow[..., StageResult], *arguments: Any) -> str:
        """Find the stage's artifact. Returns its reference."""
        found = find_artifact(stage_flow, inspect.signature(stage_flow.fn).bind(self.store, *arguments, mode="reuse").arguments)
        if found is None:
            raise LookupError(name)
        self.produced[name] = found
        return found.ref


def planned_run(recipe: Recipe, store: str, stages: Stages, until: str | None = None) -> PlannedRun:
    """Return the stages that `stages` would run. Raises `MathQuarryError` if an artifact that the recipe starts from is missing."""
    run = PlannedRun(store, recipe, None, frozenset(), lambda *_: None, until)
    stages(run)
    return run


def found_run(recipe: Recipe, store: str, stages: Stages, until: str | None = None) -> FoundRun | None:
    """Record and return the run if all its artifacts are in the store, without a Prefect server; `None` if one is missing."""
    run = FoundRun(store, recipe, None, frozenset(), lambda *_: None, until)
    try:
        stages(run)
    except LookupError:
        return None
    run.save("completed")
    try:
        Ledger(Store(store)).catch_up()
    except MathQuarryError as error:
        # The store's files are authoritative, and the next run adds the missing rows.
        logger.warning("%s", error)
    return run
