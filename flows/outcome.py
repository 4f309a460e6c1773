"""How a served run ends that met something a person can mend: the reason is its last state, and its page says what to do first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.states import Failed

from data.errors import MathQuarryError
from tasks.ui import publish_failure, server_may_be_away

P = ParamSpec("P")
R = TypeVar("R")

ADVICE = {
    "make images": "Build the images on the host: `make images`.",
    "make up": "Write the settings anew on the host: `make up`.",
    "memory": "Give the stages more memory: `MATHQUARRY_MEMORY` in `docker/.env`, then `make up`.",
    "137": "Its process was killed, most often for want of memory: raise `MATHQUARRY_MEMORY` in `docker/.env`, then `make up`.",
    "SIGKILL": "Its process was killed, most often for want of memory: raise `MATHQUARRY_MEMORY` in `docker/.env`, then `make up`.",
    "Free some space": "Free some space where the store is.",
    "heartbeat": "See whether the workers are up: `docker/up ps`.",
    "Not started": "See whether the workers are up: `docker/up ps`.",
    "Cancelled": "It was cancelled. Retry only if that was not meant.",
    "is not here": "Put the data where the recipe looks for it, or name its place in *Further overrides*.",
    "does not fit": "Start a new run with the field put right: *Retry* would take the same one again.",
}
"""Words of a cause -> what to do first. The first that fits is taken."""


class StageFailed(MathQuarryError):
    """A stage that runs elsewhere did not complete: `stage` is its name in the run, `child` its flow run's id, `cause` its last state."""

    def __init__(self, stage: str, child: str, cause: str) -> None:
        super().__init__(
            f"stage {stage}, flow run {child}, ended {cause.rstrip('.')}. When the cause is mended, retry this run: it resumes there."
        )
        self.stage, self.child, self.cause = stage, child, cause


def advice(cause: str) -> str:
    """What to do first about a cause."""
    return next((what for words, what in ADVICE.items() if words in cause), "Mend what the cause names.")


def _ended(run: FlowRun, state: State[Any]) -> State[Any]:
    """Tell the server how the current run ended, and end it: a failed state that a flow returns, Prefect raises, with a traceback.

    Where the server does not take the state now, returns it, for Prefect's engine to bring it there.
    """
    try:
        with get_client(sync_client=True) as client:
            answer = client.set_flow_run_state(run.id, state)
    except httpx.HTTPError:
        return state
    if answer.status != SetStateStatus.ACCEPT or answer.state is None:
        return state
    end = Abort("the server knows how this run ended")
    # The engine takes a signal with a state for one that was reported.
    end.state = answer.state  # type: ignore[attr-defined]
    raise end


def said_plainly(function: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """A flow's function that ends its run Failed with its `MathQuarryError` as the message, where a deployment runs it.

    Raised, the message would come with Prefect's traceback around it. Elsewhere it is raised, for whoever called the flow.
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
            with server_may_be_away():
                publish_failure(str(context.flow_run.id), cause, advice(cause), stage, child)
            return _ended(context.flow_run, Failed(message=str(error)))

    # Prefect looks names up where `run` is defined, so the annotations are given to it resolved.
    run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    run.__annotations__ = inspect.get_annotations(function, eval_str=True)
    return run
