"""Work ends with its run: a process that executes one stops when it was cancelled, deleted, crashed from outside, or started again."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled

from tasks.ui import server_may_be_away

logger = logging.getLogger("mathquarry")

LOOK_SECONDS = 5.0
GRACE_SECONDS = 15.0
"""Time for a process to end by itself after its run's last state, or after Prefect was asked to cancel it."""
STOP_SECONDS = 15.0
"""Time between asking a process to stop and stopping it."""


def until_lost(run_id: UUID, ended: threading.Event, look: float = LOOK_SECONDS, grace: float = GRACE_SECONDS) -> str | None:
    """Wait until the run is no longer this process' to execute, and say why; None when `ended` is set before.

    Nothing is concluded while the server is away.
    """
    running, since = False, None
    with get_client(sync_client=True) as client:
        while not ended.wait(look):
            try:
                run = client.read_flow_run(run_id)
                parent = _stopped_parent(client, run)
            except ObjectNotFound:
                return "it was deleted"
            except (httpx.TransportError, PrefectHTTPStatusError):
                continue
            state = run.state
            if state is None:
                continue
            if state.is_scheduled() or (running and state.is_pending()):
                return "it was started again elsewhere"
            running = running or state.is_running()
            if not (parent or state.is_final() or state.is_cancelling()):
                since = None
                continue
            since = time.monotonic() if since is None else since
            if time.monotonic() - since >= grace:
                if not state.is_final():
                    with server_may_be_away():
                        client.set_flow_run_state(run_id, Cancelled(message=parent or "Cancelled."), force=True)
                return parent or f"it is {state.name}"
    return None


def _stopped_parent(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """What happened to the pipeline that started this run, if nothing waits for it any more. `flows/dispatch.py` makes the key."""
    try:
        parent_id = UUID((run.idempotency_key or "").partition("/")[0])
    except ValueError:
        return None
    try:
        state = client.read_flow_run(parent_id).state
    except ObjectNotFound:
        return "The run that started it was deleted."
    return "The run that started it was cancelled." if state is not None and (state.is_cancelled() or state.is_cancelling()) else None


@contextmanager
def ends_with_its_run() -> Iterator[None]:
    """End this process when the run of a deployment that it executes is lost."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        reason = until_lost(run.id, ended)
        if reason is not None:
            logger.warning("this run ends here: %s", reason)
            os.kill(os.getpid(), signal.SIGTERM)
            if not ended.wait(STOP_SECONDS):
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
