"""One run of a recipe: calls stages, and records their artifacts in the store and in the ledger."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from prefect import Flow
from prefect.context import FlowRunContext

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import BuildMode, Store
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.stages.dispatch import run_stage
from mathquarry.flows.stages.lost import ends_with_its_run
from mathquarry.flows.stages.planned import planned_seconds
from mathquarry.flows.stages.registry import REFRESH, dependents, stage_of
from mathquarry.tasks.stage import StageResult

logger = logging.getLogger("mathquarry")

OnStage = Callable[[str, StageResult | None], None]
"""Called with a stage's name when it starts (None) and when its artifact exists."""


def run_id() -> str:
    """Return an id from the time and a few digits. A retried flow run gets the same id."""
    context = FlowRunContext.get()
    current = context.flow_run if context else None
    created = current.created if current and current.created else datetime.now(UTC)
    return f"{created:%Y%m%d-%H%M%S}-{(current.id if current else uuid.uuid4()).hex[-6:]}"


@dataclass
class Run:
    """One run of a recipe: calls stages, records what they produced, and keeps the run's file and ledger rows current."""

    store: str
    recipe: Recipe
    begin_at: str | None
    rebuild: frozenset[str]
    on_stage: OnStage
    until: str | None = None
    """Last stage of the run. Only stages that it needs are run."""
    id: str = field(default_factory=run_id)
    produced: dict[str, StageResult] = field(default_factory=dict)
    at_work: dict[str, str] | None = None
    """The stage that is being run: its `name` in this run, and the `stage` of its artifact."""
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def stage(self, name: str, stage_flow: Flow[..., StageResult], *arguments: Any) -> str:
        """Run the flow of the stage called `name` in this run. Returns the reference of its artifact."""
        self.on_stage(name, None)
        self.at_work = {"name": name, "stage": stage_of(stage_flow.name)}
        self.save("running")
        mode: BuildMode = "reuse"
        if _is_among(stage_flow.name, self.rebuild):
            mode = "rebuild"
        elif self.begin_at and not _is_among(stage_flow.name, dependents(self.begin_at)):
            mode = "require"
        result = run_stage(name, stage_flow, self.store, *arguments, mode=mode)
        self.produced[name] = result
        self.at_work = None
        self.on_stage(name, result)
        self.save("running")
        return result.ref

    def wants(self, stage: str) -> bool:
        """Whether this run includes a stage that no other stage needs: an evaluation or the report."""
        return self.until in (None, "report", stage)

    @property
    def references(self) -> dict[str, str]:
        """Name of each finished stage -> reference of its artifact."""
        return {name: made.ref for name, made in self.produced.items()}

    def accuracy(self) -> str:
        """Return the policies' scores as a plain-text table."""
        from mathquarry.data.report.page.text import accuracy_table

        names = {"evaluate-base": "base", "evaluate-start": "start", "evaluate-sft": "SFT"}
        rows = [
            (names.get(name, name.replace("evaluate-rl-", "RL iteration ")), made.summary)
            for name, made in self.produced.items()
            if made.stage == "evaluate"
        ]
        return accuracy_table(rows)

    @cached_property
    def _plan(self) -> dict[str, dict[str, float]]:
        return planned_seconds(self.recipe)

    def record(self, status: str) -> dict[str, Any]:
        """Return the record of the run for the store and the ledger."""
        return {
            "id": self.id,
            "recipe": self.recipe.name,
            "started": self.started,
            "ended": None if status == "running" else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "status": status,
            "at_work": self.at_work if status == "running" else None,
            "config": self.recipe.recorded(),
            "plan": self._plan,
            "stages": [
                {"name": name, "stage": made.stage, "key": made.key, "reused": made.reused, "seconds": made.seconds}
                for name, made in self.produced.items()
            ],
        }

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record how the run ended, in its file and in the ledger. Also adds rows that stages could not write."""
        try:
            with ends_with_its_run():
                yield
        except BaseException:
            self.save("failed")
            raise
        self.save("completed")
        try:
            Ledger(Store(self.store)).catch_up()
        except MathQuarryError as error:
            # The store's files are authoritative, and the next run adds the missing rows.
            logger.warning("%s", error)

    def save(self, status: str) -> None:
        """Write the file of the run."""
        Store(self.store).write_run(self.record(status))


def _is_among(flow: str, stages: Set[str]) -> bool:
    """Whether the stage of a flow is one of these. A refreshed reward model belongs to its iteration."""
    return stage_of(flow) in stages or (flow == REFRESH and "grpo" in stages)
