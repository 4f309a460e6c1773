"""Stops the process of a run that was canceled, deleted, set to crashed from outside, or started again."""

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
from prefect.exceptions import Abort, ObjectNotFound, PrefectHTTPStatusError, TerminationSignal
from prefect.states import Cancelled

logger = logging.getLogger("mathquarry")

LOOK_SECONDS = 5.0
GRACE_SECONDS = 15.0
"""Time for a process to end by itself after its run's final state, or after a request to cancel it."""
STOP_SECONDS = 15.0
"""Time between asking a process to stop and stopping it."""


def until_lost(run_id: UUID, ended: threading.Event, look: float = LOOK_SECONDS, grace: float = GRACE_SECONDS) -> str | None:
    """Wait until this process should no longer execute the run, and return the reason; None if `ended` is set first.

    Draws no conclusions while the server is unreachable.
    """
    running, since = False, None
    with get_client(sync_client=True) as client:
        while not ended.wait(look):
            try:
                run = client.read_flow_run(run_id)
                parent = stopped_parent(client, run)
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
            if time.monotonic() - since >= grace and (state.is_final() or _cancelled(client, run_id, parent or "Cancelled.")):
                return parent or f"it is {state.name}"
    return None


def _cancelled(client: SyncPrefectClient, run_id: UUID, message: str) -> bool:
    """Set the run to cancelled. Return whether the server has confirmed it: without that, the stopped engine would report a crash."""
    try:
        client.set_flow_run_state(run_id, Cancelled(message=message), force=True)
    except (httpx.TransportError, PrefectHTTPStatusError, ObjectNotFound):
        return False
    return True


def stopped_parent(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Return what happened to the pipeline that started this run, or None if it still waits. `flows/stages/dispatch.py` makes the key."""
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
    """End this process when the deployment run that it executes is lost.

    When stopped, Prefect's engine reports a crash, overwriting the run's state. So if the process was stopped because the run is lost, the
    engine is told that there is nothing to report, and exits with status 0.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        yield
        return
    ended, lost = threading.Event(), threading.Event()

    def watch() -> None:
        reason = until_lost(run.id, ended)
        if reason is not None:
            lost.set()
            logger.warning("this run ends here: %s", reason)
            os.kill(os.getpid(), signal.SIGTERM)
            if not ended.wait(STOP_SECONDS):
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except TerminationSignal:
        # A container has another process around this one, which may notice first.
        if lost.is_set() or not _is_running(run.id):
            raise Abort("the server knows how this run ended") from None
        raise
    finally:
        ended.set()


def _is_running(run_id: UUID) -> bool:
    """Whether the process that started the run should still execute it, as far as the server can tell."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run_id).state
    except ObjectNotFound:
        return False
    except (httpx.HTTPError, PrefectHTTPStatusError):
        return True
    return state is None or state.is_running() or state.is_cancelling()
