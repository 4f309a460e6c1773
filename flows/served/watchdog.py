"""The service that detects runs whose process is gone, and ends runs that wait for a pipeline that no longer exists.

python -m mathquarry.flows.served.watchdog      beside the workers; docker/compose.yaml starts it

A worker reports a process that died. If the worker died too, or the server was unreachable at that moment, a run stays *Running* or
*Pending* forever. An automation on the server cannot tell such a run from one whose heartbeats the server missed. So this service relies on
its own observations: a run is silent if check after check reached the server and found nothing new about the run. If the server was
unreachable, even briefly, all timers restart, since events sent meanwhile may still arrive. A run is read once more before it is ended, and
a run that is making its artifact on this host counts as alive, whatever the server knows.

Scheduled and suspended runs have no process and send no heartbeats. They are ended only if the pipeline that started them was canceled or
deleted. The server does that itself only for subflows, and a reviewed `mine` cannot be one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed

from mathquarry.flows.served.deploy import CPU_POOL, CPU_STAGES, GPU_POOL, GPU_STAGES, DeploySettings
from mathquarry.flows.stages.lost import stopped_parent
from mathquarry.flows.stages.stage import is_being_made

logger = logging.getLogger("mathquarry")

LOOK_SECONDS = 5.0
GAP_SECONDS = 30.0
"""Checks further apart than this are not reliable: a request that took this long means that the server was unreachable. In a shorter time
a run loses at most one heartbeat of three."""
LOOKED = Path("/tmp/looked")
"""File touched after each check, for the service's health check."""
PAGE = 200
"""Most runs that the server returns in one answer."""
STAGES = {stage.name: stage for stage in (*CPU_STAGES, *GPU_STAGES)}


class Sign(NamedTuple):
    """The signs of life of a run at one check. Two equal ones mean that nothing arrived in between."""

    kind: StateType
    state: UUID
    newest: UUID | None
    """Its newest event, by the sender's clock."""
    events: int


class Silence:
    """How long each run has been silent, by this process's own clock.

    `limits` maps kinds of states to the seconds that a run in one may be silent. Other kinds are ignored.
    """

    def __init__(self, limits: Mapping[StateType, float]) -> None:
        self._limits = limits
        self._heard: dict[UUID, tuple[Sign, float]] = {}
        self._looked: float | None = None

    def look(self, now: float, seen: Mapping[UUID, Sign] | None) -> list[UUID]:
        """Runs that have been silent longer than their limit, after a check at time `now`. `seen` is None if the server was unreachable."""
        if self._looked is not None and (seen is None or now - self._looked > GAP_SECONDS):
            logger.warning("the server was unreachable %.0f seconds after the last check: all timers restart", now - self._looked)
            self._heard.clear()
        self._looked = None if seen is None else now
        before, self._heard = self._heard, {}
        for run, sign in (seen or {}).items():
            last, since = before.get(run, (sign, now))
            self._heard[run] = (sign, since if sign == last else now)
        return [run for run, (sign, since) in self._heard.items() if now - since > self._limits.get(sign.kind, float("inf"))]

    def heard(self, run: UUID) -> None:
        """The run is alive after all: restart its timer."""
        self._heard.pop(run, None)


class Watchdog:
    """Checks the runs of our two pools again and again."""

    def __init__(self, settings: DeploySettings) -> None:
        silent = 3.0 * settings.heartbeat_seconds  # one can be late on a busy host
        self.silence = Silence({StateType.RUNNING: silent, StateType.CANCELLING: silent, StateType.PENDING: float(settings.start_seconds)})
        self.endings: dict[StateType, State[Any]] = {
            StateType.RUNNING: Crashed(
                message=f"No heartbeat for {silent:.0f} seconds: the process or its host is gone. Retry resumes the work."
            ),
            StateType.CANCELLING: Cancelled(message=f"No heartbeat for {silent:.0f} seconds: the process is gone."),
            StateType.PENDING: Crashed(
                message=f"Not started within {settings.start_seconds} seconds: its worker or host died, or the server was unreachable. "
                "Retry starts it again."
            ),
        }

    def look(self, client: SyncPrefectClient) -> None:
        """Check every run for news, and end lost ones. Raises `httpx.HTTPError` if the server is unreachable."""
        runs = _runs(client, list(self.endings))
        seen = {run.id: _sign(client, run, run.state) for run in runs if run.state is not None}
        for run_id in self.silence.look(time.monotonic(), seen):
            self._end(client, run_id, seen[run_id])
        for run in _runs(client, [StateType.SCHEDULED, StateType.PAUSED]):
            if (reason := stopped_parent(client, run)) is not None:
                _set_state(client, run, Cancelled(message=reason))

    def server_was_away(self) -> None:
        """Forget all earlier observations."""
        self.silence.look(time.monotonic(), None)

    def _end(self, client: SyncPrefectClient, run_id: UUID, sign: Sign) -> None:
        try:
            run = client.read_flow_run(run_id)
        except ObjectNotFound:
            return
        if run.state is None or _sign(client, run, run.state) != sign:
            return
        if _makes_its_artifact(run, client.read_flow(run.flow_id).name):
            logger.warning("%s (%s) is silent, but it is making its artifact: it is left alone", run.name, run.id)
            self.silence.heard(run_id)
        else:
            _set_state(client, run, self.endings[sign.kind])


def _runs(client: SyncPrefectClient, kinds: list[StateType]) -> list[FlowRun]:
    """Every run of our pools in a state of one of these kinds."""
    found: list[FlowRun] = []
    while len(found) % PAGE == 0:
        page = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=kinds))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[CPU_POOL, GPU_POOL])),
            limit=PAGE,
            offset=len(found),
        )
        if not page:
            break
        found += page
    return found


def _sign(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> Sign:
    # Another host's clock may be wrong. If it is set back, the newest event stays the same, but the number of events grows.
    day, now = timedelta(days=1), datetime.now(UTC)
    events = client.read_events(
        EventFilter(
            occurred=EventOccurredFilter(since=now - day, until=now + day), resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"])
        ),
        limit=1,
    )
    return Sign(state.type, state.id, events.events[0].id if events.events else None, events.total)


def _makes_its_artifact(run: FlowRun, flow: str) -> bool:
    """Whether a process on this host is making the artifact of a stage's run."""
    stage = STAGES.get(flow)
    try:
        return stage is not None and is_being_made(stage, stage.validate_parameters(run.parameters))
    except Exception as error:  # its parameters can be anything, and one run must not stop the checks of the others
        logger.warning("%s (%s) does not say what it makes: %s: %s", run.name, run.id, type(error).__name__, error)
        return False


def _set_state(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    # Not forced: the server refuses if the run has just ended.
    client.set_flow_run_state(run.id, state)
    logger.warning("%s (%s) was %s, now %s: %s", run.name, run.id, run.state and run.state.name, state.name, state.message)


def main() -> None:
    """Check until the process is stopped."""
    watchdog = Watchdog(DeploySettings())
    while True:
        try:
            with get_client(sync_client=True) as client:
                while True:
                    watchdog.look(client)
                    LOOKED.touch()
                    time.sleep(LOOK_SECONDS)
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            logger.warning("the server does not answer: %s: %s", type(error).__name__, error)
            watchdog.server_was_away()
            LOOKED.touch()
            time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
