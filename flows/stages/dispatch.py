"""Runs a stage in this process, or from its deployment, in a separate process or container.

A pipeline that was started from a deployment runs its stages from theirs. Each is a child run whose key combines the pipeline run's id and
the stage's name, so a retried pipeline finds its earlier children. It skips finished ones, waits for one that still runs, and resumes one
that failed as the same run. A stage whose artifact is in the store gets a child run too, which ends at once, without waiting for a GPU or
starting a container. Only references are passed between runs; the artifacts are in the store.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import AwaitingRetry, Completed
from prefect.utilities.urls import url_for
from pydantic_core import to_jsonable_python

from mathquarry.data.store.store import Store
from mathquarry.flows.stages.outcome import StageFailed
from mathquarry.flows.stages.stage import find_artifact, is_being_made, message_of, produced_by
from mathquarry.tasks.stage import WAITING, StageResult
from mathquarry.tasks.ui import publish_stage, server_may_be_away

POLL_SECONDS = 2.0
SERVER_PATIENCE_SECONDS = 1800.0
"""How long the server may be unreachable before a pipeline gives up; its children continue without it."""
MOST_CRASHES = 2
"""How often a pipeline automatically resumes a crashed stage before it fails and waits for Retry."""
CRASH_SECONDS = 15.0
"""Wait before resuming: a worker reports a dead process again after some seconds, and a run resumed earlier would look crashed."""
HOPELESS = ("137", "SIGKILL", "make images", "make up")
"""Words in crashes that would recur: a memory limit was reached, or a person has to fix something on the host first."""
START_SECONDS = 60.0
"""How far ahead a run is scheduled that should end before a worker sees it. Workers look 10 s ahead."""


def run_stage(name: str, stage_flow: Flow[..., StageResult], store: str, *arguments: Any, **options: Any) -> StageResult:
    """Run the stage called `name` in the current flow run, here or from its deployment.

    Raises what the stage raises when it runs here, and `StageFailed` naming the child run when it failed elsewhere.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return stage_flow.with_options(flow_run_name=name)(store, *arguments, **options)
    bound = inspect.signature(stage_flow.fn).bind(store, *arguments, **options)
    found = find_artifact(stage_flow, bound.arguments)
    child = _child_run(
        name,
        deployment_of(stage_flow),
        f"{context.flow_run.id}/{name}",
        to_jsonable_python(bound.arguments),
        found,
        lambda: is_being_made(stage_flow, bound.arguments),
    )
    assert child.state is not None
    if not child.state.is_completed():
        cause = f"{child.state.name}: {child.state.message or ''}".rstrip(": ")
        raise StageFailed(name, str(child.id), cause)
    return produced_by(child.state, store)


def deployment_of(stage_flow: Flow[..., Any]) -> str:
    """Full name of the flow's deployment (`flows/served/deploy.py` creates it)."""
    return f"{stage_flow.name}/{stage_flow.name}"


def asks_a_person(parameters: Mapping[str, Any]) -> bool:
    """Whether a stage with these parameters may suspend itself until a person has answered."""
    config = parameters.get("config")
    return isinstance(config, Mapping) and config.get("review") is not None


def _child_run(
    name: str, deployment: str, key: str, parameters: dict[str, Any], found: StageResult | None, alive: Callable[[], bool]
) -> FlowRun:
    """Start, resume or find the child run of `key`, and wait until it has ended. A suspended run has not ended.

    If the artifact was already `found`, a run that no worker has picked up yet ends without one.
    """
    options: dict[str, Any] = {"scheduled_time": datetime.now(UTC) + timedelta(seconds=START_SECONDS)} if found else {}
    if asks_a_person(parameters):
        # The server cannot suspend subflows. The run is found again by its key, which the watchdog uses too.
        options |= {"as_subflow": False, "tags": [f"pipeline {key.partition('/')[0]}"]}
    started = _with_retries(
        run_deployment, deployment, parameters=parameters, flow_run_name=name, idempotency_key=key, timeout=0, **options
    )
    try:
        with get_client(sync_client=True) as client:
            if found is None:
                _with_retries(_resume, client, started.id, alive)
            elif _with_retries(_end, client, started.id, message_of(found)):
                _show(started, found, parameters["store"])
            return _ended(client, name, started.id, alive)
    except ObjectNotFound:
        raise StageFailed(name, str(started.id), "Deleted: somebody deleted its run") from None


def _ended(client: SyncPrefectClient, name: str, child_id: UUID, alive: Callable[[], bool]) -> FlowRun:
    """Wait for the child run to end, resuming it after crashes and logging its states. Returns it."""
    log = get_run_logger()
    state, crashes = None, 0
    while True:
        child: FlowRun = _with_retries(client.read_flow_run, child_id)
        if child.state is not None and child.state.name != state:
            state = child.state.name
            reason = f": {child.state.message}" if state == WAITING else ""
            log.info("%s: %s (flow run %s)%s", name, state, child.id, reason)
            if child.state.is_paused():
                log.warning("%s waits for a person: open %s and choose Resume in its menu.", name, url_for(child) or child.id)
        if child.state is not None and child.state.is_final():
            if not _worth_another_try(child.state) or crashes == MOST_CRASHES:
                return child
            crashes += 1
            log.warning("%s crashed (%s); resuming it, %d of %d times", name, child.state.message, crashes, MOST_CRASHES)
            time.sleep(CRASH_SECONDS)
            _with_retries(_resume, client, child.id, alive)
        time.sleep(POLL_SECONDS)


def _worth_another_try(state: State) -> bool:
    """Whether a run was lost to a temporary problem around it, such as an unreachable server at its start."""
    return state.is_crashed() and not any(word in (state.message or "") for word in HOPELESS)


def _resume(client: SyncPrefectClient, child_id: UUID, alive: Callable[[], bool]) -> None:
    """Schedule a child again that ended without completing."""
    state = client.read_flow_run(child_id).state
    if state is not None and state.is_final() and not state.is_completed():
        while alive():
            # Its process is alive, whatever the server thinks; a second one would be redundant.
            time.sleep(POLL_SECONDS)
        client.set_flow_run_state(child_id, AwaitingRetry(message="Resumed by the pipeline."), force=True)


def _end(client: SyncPrefectClient, child_id: UUID, message: str) -> bool:
    """Complete a child that is neither running nor completed; returns whether it was such a child."""
    state = client.read_flow_run(child_id).state
    idle = state is not None and (state.is_scheduled() or (state.is_final() and not state.is_completed()))
    if idle:
        client.set_flow_run_state(child_id, Completed(message=message), force=True)
    return idle


def _show(child: FlowRun, found: StageResult, store: str) -> None:
    """Show the found artifact on the child's page, as its own run would have."""
    context = FlowRunContext.get()
    assert context is not None
    with context.model_copy(update={"flow_run": child}), server_may_be_away():
        publish_stage(Store(store).get(found.stage, found.key))


def _with_retries(request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Repeat a request while the server is unreachable. Every request here is safe to repeat."""
    deadline = time.monotonic() + SERVER_PATIENCE_SECONDS
    while True:
        try:
            return request(*arguments, **options)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            refused = isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
