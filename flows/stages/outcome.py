"""Ends a served run that met an error a person can fix: its final state gives the reason, and its page says what to do first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.states import Failed

from mathquarry.data.errors import MathQuarryError
from mathquarry.tasks.ui import publish_failure, server_may_be_away

P = ParamSpec("P")
R = TypeVar("R")

ADVICE = {
    "make images": "Build the images on the host: `make images`.",
    "make up": "Rewrite the settings on the host: `make up`.",
    "memory": "Give the stages more memory: `MATHQUARRY_MEMORY` in `docker/.env`, then `make up`.",
    "137": "Its process was killed, most often for lack of memory: raise `MATHQUARRY_MEMORY` in `docker/.env`, then `make up`.",
    "SIGKILL": "Its process was killed, most often for lack of memory: raise `MATHQUARRY_MEMORY` in `docker/.env`, then `make up`.",
    "Free some space": "Free some space where the store is.",
    "heartbeat": "Check that the workers are up: `docker/up ps`.",
    "Not started": "Check that the workers are up: `docker/up ps`.",
    "Cancelled": "It was canceled. Retry only if that was a mistake.",
    "Deleted": "The stage's run was deleted. Retry only if that was a mistake.",
    "is missing. Provide": "Put the data where the recipe looks for it, or set its location in *Further overrides*. In the services' "
    "containers, /data is the host's folder that `MATHQUARRY_DATA_SOURCE` in `docker/.env` names; they see no other.",
    "does not fit": "Correct the field and start a new run: *Retry* would use the same value again.",
}
"""Words in a cause -> what to do first. The first match is used."""


class StageFailed(MathQuarryError):
    """A stage that runs elsewhere did not complete: `stage` is its name in the run, `child` its flow run's id, `cause` its last state."""

    def __init__(self, stage: str, child: str, cause: str) -> None:
        super().__init__(
            f"stage {stage}, flow run {child}, ended {cause.rstrip('.')}. Fix the cause, then retry this run: it resumes there."
        )
        self.stage, self.child, self.cause = stage, child, cause


def advice(cause: str) -> str:
    """Return what a user should do first about a cause."""
    return next((what for words, what in ADVICE.items() if words in cause), "Fix the cause.")


def _ended(run: FlowRun, state: State[Any]) -> State[Any]:
    """Tell the server how the current run ended, and end it. If a flow returns a failed state, Prefect raises it with a traceback.

    If the server does not accept the state now, this returns it, and Prefect's engine sends it.
    """
    try:
        with get_client(sync_client=True) as client:
            answer = client.set_flow_run_state(run.id, state)
    except httpx.HTTPError:
        return state
    if answer.status != SetStateStatus.ACCEPT or answer.state is None:
        return state
    end = Abort("the server knows how this run ended")
    # The engine assumes that a signal with a state has been reported.
    end.state = answer.state  # type: ignore[attr-defined]
    raise end


def said_plainly(function: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """Make a flow's function end a deployment's run as Failed, with its `MathQuarryError` as the message.

    If it were raised there, the message would include Prefect's traceback. Outside a deployment, it is raised to the caller.
    """

    @functools.wraps(function)
    def run(*arguments: P.args, **keywords: P.kwargs) -> R | State[Any]:
        try:
            return function(*arguments, **keywords)
        except MathQuarryError as error:
            context = FlowRunContext.get()
            if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
                raise
            stage, child, cause = (error.stage, error.child, error.cause) if isinstance(error, StageFailed) else (None, None, str(error))
            first, page = advice(cause), None
            with server_may_be_away():
                page = publish_failure(str(context.flow_run.id), cause, first, stage, child)
            # A run's page opens with the log.
            get_run_logger().error("%s\nFirst: %s%s", error, first, f"\nMore: {page}" if page else "")
            return _ended(context.flow_run, Failed(message=str(error)))

    # Prefect resolves names where `run` is defined, so it gets resolved annotations.
    run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    run.__annotations__ = inspect.get_annotations(function, eval_str=True)
    return run
