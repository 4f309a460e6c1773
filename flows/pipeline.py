"""The whole path: crawl -> corpus -> base -> instruct -> reward model -> iterative GRPO -> scores -> report.

The pipeline only chains stages and passes references. Each stage is looked up by its key, so running the same recipe again does nothing,
and a run that was interrupted anywhere picks up at the stage, and inside it at the checkpoint, where it stopped.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefect import Flow, flow
from prefect.context import FlowRunContext

from data.errors import MathQuarryError
from data.ledger import Ledger
from data.store import BuildMode, Store
from flows.crawl import crawl_flow
from flows.curate import curate_flow
from flows.dispatch import run_stage
from flows.iterate import iterate, score
from flows.lost import ends_with_its_run
from flows.mine import mine_flow
from flows.pretrain import pretrain_flow
from flows.problems import problems_flow
from flows.recipe import Recipe
from flows.rejection import rejection_flow
from flows.report import report_flow
from flows.sft import sft_flow
from flows.stages import STAGES, dependents
from tasks.stage import Produced

logger = logging.getLogger("mathquarry")

Announce = Callable[[str, Produced | None], None]
"""Called with a stage's name when it starts (None) and when it is there."""


def run_id() -> str:
    """Time and a few digits; the same again when the current flow run is retried."""
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
    announce: Announce
    id: str = field(default_factory=run_id)
    produced: dict[str, Produced] = field(default_factory=dict)
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def stage(self, name: str, stage_flow: Flow[..., Produced], *arguments: Any) -> str:
        """Run the flow of the stage called `name` in this run; returns the reference of its artifact."""
        stage = next(stage for stage in STAGES if name == stage or name.startswith(f"{stage}-"))
        self.announce(name, None)
        mode: BuildMode = "reuse"
        if stage in self.rebuild:
            mode = "rebuild"
        elif self.begin_at and stage not in dependents(self.begin_at):
            mode = "require"
        result = run_stage(name, stage_flow, self.store, *arguments, mode=mode)
        self.produced[name] = result
        self.announce(name, result)
        self.save("running")
        return result.ref

    @property
    def references(self) -> dict[str, str]:
        """Name of each stage so far -> reference of its artifact."""
        return {name: made.ref for name, made in self.produced.items()}

    def record(self, status: str) -> dict[str, Any]:
        """The run as it goes into the store and the ledger."""
        return {
            "id": self.id,
            "recipe": self.recipe.name,
            "started": self.started,
            "ended": None if status == "running" else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "status": status,
            "config": self.recipe.recorded(),
            "stages": [
                {"name": name, "stage": made.stage, "key": made.key, "reused": made.reused, "seconds": made.seconds}
                for name, made in self.produced.items()
            ],
        }

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record how the run ended, in its file and in the ledger; rows that stages could not write are written too."""
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
            # The files of the store are the truth, and the next run catches up on the rows.
            logger.warning("%s", error)

    def save(self, status: str) -> None:
        """Write the run's file."""
        Store(self.store).write_run(self.record(status))


@flow(name="pipeline", flow_run_name="{recipe.name}", validate_parameters=False)
def pipeline(recipe: Recipe, store: str, begin_at: str | None, force: str | None, announce: Announce) -> Run:
    """Run every stage of `recipe` in order. Raises what the failing stage raises, after recording the run as failed."""
    run = Run(store, recipe, begin_at, dependents(force) if force else frozenset(), announce)
    with run.recorded():
        whole_path(run, recipe)
    return run


@dataclass(frozen=True)
class Trained:
    """References of what supervised training made and used."""

    problems: str
    base: str
    examples: str
    policy: str


def up_to_sft(run: Run, recipe: Recipe) -> Trained:
    """Every stage up to the fine-tuned policy, in order."""
    problems = run.stage("problems", problems_flow, recipe.problems)
    crawl = run.stage("crawl", crawl_flow, recipe.crawl, problems)
    corpus = run.stage("mine", mine_flow, recipe.mine, crawl, problems)
    base = run.stage("pretrain", pretrain_flow, recipe.model, recipe.pretrain, corpus, problems)
    examples = run.stage("curate", curate_flow, recipe.curate, problems)
    sampled = None
    if recipe.rejection.enabled:
        sampler = run.stage("sft-first", sft_flow, recipe.sft, base, examples)
        sampled = run.stage("rejection", rejection_flow, recipe.rejection, sampler, problems, examples)
    policy = run.stage("sft", sft_flow, recipe.sft, base, examples, sampled)
    return Trained(problems, base, examples, policy)


def whole_path(run: Run, recipe: Recipe) -> None:
    """Every stage of the recipe, in order."""
    trained = up_to_sft(run, recipe)
    score(run, recipe, "base", trained.base, trained.problems)
    score(run, recipe, "sft", trained.policy, trained.problems)
    made = {"problems": trained.problems, "pretrain": trained.base, "curate": trained.examples, "sft": trained.policy}
    iterate(run, recipe, made, recipe.iterations)
    run.stage("report", report_flow, run.record("running"), run.references)
