"""What every stage's task does around its library function: identity, reuse, progress, ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Running

from data.config import Config
from data.errors import BeingMade, MathQuarryError
from data.ledger import Ledger
from data.sources import Source, identify
from data.store import Artifact, BuildMode, Identity, Store
from data.workspace import Progress, Workspace
from tasks.ui import publish_stage, server_may_be_away

logger = logging.getLogger("mathquarry")

UI_SECONDS = 5.0
"""Least time between two progress updates in the Prefect UI; each is a request to the server."""
LOG_SECONDS = 30.0
"""Least time between two lines about the same work in the run's log."""
LOCK_SECONDS = 2.0
"""Time between two attempts to make what another process is making."""
WAITING = "Waiting"
"""Name of the state of a run that does so. Its type is that of a running one."""


@dataclass(frozen=True)
class Produced:
    """What a stage hands to the next: a reference, never the data."""

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
) -> Produced:
    """Make a stage's artifact, or find that it exists, and write its ledger rows.

    `inputs` maps roles to references ("stage/key"); `work` gets the workspace and the input folders by role. `sources` are names of files
    outside the store that the config mentions (or what they were found to be); their content is part of the artifact's identity.
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
    progress = Progress([_UIProgress()] if FlowRunContext.get() else [])
    turn = _Turn(f"{stage}/{identity.key}")

    def work_in_turn(space: Workspace) -> dict[str, Any]:
        turn.come()
        return work(space, folders)

    artifact = turn.take(lambda: store.build(identity, work_in_turn, progress=progress, mode=mode))
    _record(store, artifact)
    if FlowRunContext.get():
        with server_may_be_away():
            publish_stage(artifact)
    return Produced(f"{stage}/{artifact.key}", artifact.reused, artifact.seconds, artifact.summary)


def _record(store: Store, artifact: Artifact) -> None:
    ledger = Ledger(store)
    try:
        if artifact.reused and store.ledger_path.exists() and ledger.query("select 1 from artifacts where key = ?", [artifact.key]):
            return
        ledger.record(artifact)
    except (MathQuarryError, duckdb.Error, OSError) as error:
        # The artifact is published and its manifest is the truth; a row that could not be written must not fail the stage.
        logger.warning("%s is published; its row in the ledger comes later, with `mathquarry ledger sync`: %s", artifact.key, error)


class _Turn:
    """Lets a run of a deployment wait while another run makes the same artifact, which it then mostly finds.

    A run at a terminal does not wait: the person there is told, and decides.
    """

    def __init__(self, reference: str) -> None:
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        self._run = run if run is not None and run.deployment_id is not None else None
        self._reason = f"another run is making {reference}; this one goes on when that has ended."
        self._waiting = False

    def take(self, build: Callable[[], Artifact]) -> Artifact:
        """What `build` returns, called again until nothing else is making it."""
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
        """The wait, if there was one, is over, and the work is this run's."""
        if self._waiting:
            self._waiting = False
            self._tell(Running())

    def _tell(self, state: State[None]) -> None:
        assert self._run is not None
        with server_may_be_away(), get_client(sync_client=True) as client:
            client.set_flow_run_state(self._run.id, state)


class _UIProgress:
    """Shows each piece of work as a progress artifact of the flow run in the Prefect UI."""

    def __init__(self) -> None:
        self._artifacts: dict[str, Any] = {}
        self._told: dict[str, float] = {}
        self._logged: dict[str, float] = {}
        self._log = get_run_logger()

    def __call__(self, what: str, done: int, total: int) -> None:
        # A total can be an estimate that the work outgrows.
        share = min(100.0, 100.0 * done / max(total, 1))
        now = time.monotonic()
        if now - self._told.get(what, -UI_SECONDS) < UI_SECONDS and done < total:
            return
        self._told[what] = now
        with server_may_be_away():
            if what in self._artifacts:
                update_progress_artifact(artifact_id=self._artifacts[what], progress=share, description=f"{what}: {done:,} of {total:,}")
            else:
                self._artifacts[what] = create_progress_artifact(progress=share, description=what)
        if now - self._logged.get(what, -LOG_SECONDS) >= LOG_SECONDS or done >= total:
            self._log.info("%s: %s of %s", what, f"{done:,}", f"{total:,}")
            self._logged[what] = now
