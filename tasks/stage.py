"""Run a stage's library function as a Prefect task: identity, reuse, progress and the ledger row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Running

from mathquarry.data.config import Config
from mathquarry.data.errors import BeingMade, MathQuarryError
from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.display import is_terminal
from mathquarry.data.store.sources import Source, identify
from mathquarry.data.store.store import Artifact, BuildMode, Identity, Store
from mathquarry.data.store.workspace import Progress, Workspace
from mathquarry.tasks.live import StagePage
from mathquarry.tasks.trackers import tracked, trackers_of
from mathquarry.tasks.ui import publish_stage, server_may_be_away

logger = logging.getLogger("mathquarry")

LOCK_SECONDS = 2.0
"""Time between two attempts to make an artifact that another process is making."""
WAITING = "Waiting"
"""Name of the state of a run that waits this way. Its type is Running."""


@dataclass(frozen=True)
class StageResult:
    """The reference to an artifact that a stage passes to the next, instead of the data."""

    ref: str
    reused: bool
    seconds: float
    summary: dict[str, Any]

    @property
    def stage(self) -> str:
        """Stage that made the artifact."""
        return self.ref.split("/")[0]

    @property
    def key(self) -> str:
        """Key of the artifact."""
        return self.ref.split("/")[1]


def produce(
    store_url: str,
    stage: str,
    version: int,
    config: Mapping[str, Config | int | str],
    inputs: Mapping[str, str],
    work: Callable[[Workspace, dict[str, Path]], dict[str, Any]],
    *,
    sources: Sequence[str | Source] = (),
    mode: BuildMode = "reuse",
) -> StageResult:
    """Make a stage's artifact, or reuse an existing one, and write its ledger rows.

    `inputs` maps roles to references ("stage/key"); `work` gets the workspace and the input folders by role. `sources` are names of files
    outside the store that the config mentions (or the identified sources); their content is part of the artifact's identity.
    """
    store = Store(store_url)
    artifacts = {role: store.get(*reference.split("/")) for role, reference in inputs.items()}
    identity = Identity(
        stage=stage,
        version=version,
        config={name: value.identity() if isinstance(value, Config) else value for name, value in config.items()},
        inputs={role: artifact.key for role, artifact in artifacts.items()},
        sources=tuple(source for name in sources for source in ([name] if isinstance(name, Source) else identify(name))),
    )
    folders = {role: artifact.path for role, artifact in artifacts.items()}
    name = f"{stage}-{identity.key[:8]}"
    trackers = trackers_of(config.values())
    page = StagePage(stage, name) if FlowRunContext.get() else None
    # Where the run's log shows progress, plain lines would only repeat it.
    progress = Progress([page] if page else [], quiet=page is not None and page.is_logged and not is_terminal())
    turn = _Turn(f"{stage}/{identity.key}")

    def work_in_turn(workspace: Workspace) -> dict[str, Any]:
        turn.come()
        metrics = workspace.metrics.path
        with (
            page.following(metrics, workspace.scratch) if page else nullcontext(),
            tracked(trackers, name, identity.config, metrics, store.root / "trackers") if trackers else nullcontext(),
        ):
            return work(workspace, folders)

    artifact = turn.take(lambda: store.build(identity, work_in_turn, progress=progress, mode=mode))
    if mode != "require":  # what is only looked up was recorded by who made it, and a run's end catches up on what is missing
        _record(store, artifact)
    if FlowRunContext.get():
        with server_may_be_away():
            publish_stage(artifact, page.chart if page else None)
    return StageResult(f"{stage}/{artifact.key}", artifact.reused, artifact.seconds, artifact.summary)


def _record(store: Store, artifact: Artifact) -> None:
    ledger = Ledger(store)
    try:
        if artifact.reused and store.ledger_path.exists() and ledger.query("select 1 from artifacts where key = ?", [artifact.key]):
            return
        ledger.record(artifact)
    except (MathQuarryError, duckdb.Error, OSError) as error:
        # The artifact is published, and the ledger can be rebuilt from its manifest; a failed write of a row must not fail the stage.
        logger.warning("%s is published, but its ledger row is missing; run `mathquarry ledger sync` later: %s", artifact.key, error)


class _Turn:
    """Lets a deployment's run wait while another run makes the same artifact, which it then usually finds.

    A run at a terminal does not wait: the person there sees the message and decides.
    """

    def __init__(self, reference: str) -> None:
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        self._run = run if run is not None and run.deployment_id is not None else None
        self._reason = f"another run is making {reference}; this one continues when that has ended."
        self._waiting = False

    def take(self, build: Callable[[], Artifact]) -> Artifact:
        """Call `build` until no other process is making the artifact; return its result."""
        while True:
            try:
                return build()
            except BeingMade:
                if self._run is None:
                    raise
                if not self._waiting:
                    self._waiting = True
                    logger.warning("%s", self._reason)
                    self._tell(Running(name=WAITING, message=self._reason))
                time.sleep(LOCK_SECONDS)

    def come(self) -> None:
        """End the wait, if there was one: this run does the work now."""
        if self._waiting:
            self._waiting = False
            self._tell(Running())

    def _tell(self, state: State[None]) -> None:
        assert self._run is not None
        with server_may_be_away(), get_client(sync_client=True) as client:
            client.set_flow_run_state(self._run.id, state)
