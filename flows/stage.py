"""A stage as a flow: what makes it callable here, runnable from a deployment, and readable in the Prefect UI."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Annotated, Any, ParamSpec, cast

from prefect import Flow, Task, flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from data.errors import MathQuarryError, NotMade
from data.store import Store
from flows.lost import ends_with_its_run
from flows.outcome import said_plainly
from tasks.stage import Produced

P = ParamSpec("P")

ArtifactRef = Annotated[str, Field(pattern=r"^[a-z]+/[0-9a-f]{20}$", examples=["sft/0123456789abcdef0123"])]
"""Reference of an artifact, `stage/key`, as a stage's summary in the UI and `mathquarry ledger ls` show it."""

_TASKS: dict[str, Task[..., Any]] = {}
"""Name of a stage's flow -> its task, which takes the same arguments."""
_MESSAGE = re.compile(r"(made|found) ([a-z]+)/([0-9a-f]{20})")


def stage_flow(name: str, task: Task[P, Any]) -> Callable[[Callable[P, Produced]], Flow[P, Produced]]:
    """A flow around a stage's task that ends Completed with a message naming its artifact: "made sft/<key>".

    The message is all that a pipeline gets from a stage that ran elsewhere. It arrives with the state, so there is no state without it.
    """

    def decorate(function: Callable[P, Produced]) -> Flow[P, Produced]:
        @said_plainly
        @functools.wraps(function)
        def run(*arguments: P.args, **keywords: P.kwargs) -> State[Produced]:
            with ends_with_its_run():
                produced = function(*arguments, **keywords)
            return Completed(message=message_of(produced), data=produced)

        _TASKS[name] = task
        # Prefect hands the state's data to whoever calls the flow in this process.
        return flow(name=name)(cast(Callable[P, Produced], run))

    return decorate


def message_of(produced: Produced) -> str:
    """What a stage's last state says: the artifact, and whether it was made or found."""
    return f"{'found' if produced.reused else 'made'} {produced.ref}"


def find_artifact(stage_flow: Flow[..., Produced], arguments: Mapping[str, Any]) -> Produced | None:
    """What the stage would find in the store, without running it; None when there is nothing, or when it is to be made again.

    None also where only the stage's own container can tell: a source that is not here, or a library that is not installed here.
    """
    if arguments.get("mode") == "rebuild":
        return None
    try:
        # In a context of its own, nothing of it is shown on the page of the run that asks.
        found = Context().run(_TASKS[stage_flow.name].fn, **{**arguments, "mode": "require"})
    except (MathQuarryError, ImportError):
        return None
    return cast(Produced, found)


def is_being_made(stage_flow: Flow[..., Produced], arguments: Mapping[str, Any]) -> bool:
    """Whether a process on this host is making what the stage would make. False also where only the stage's own container can tell."""
    try:
        key = Context().run(_TASKS[stage_flow.name].fn, **{**arguments, "mode": "require"}).key
    except NotMade as missing:
        key = missing.key
    except (MathQuarryError, ImportError):
        return False
    return Store(arguments["store"]).being_made(key)


def produced_by(state: State, store_url: str) -> Produced:
    """What a stage that ran elsewhere made, from its final state and the artifact's manifest."""
    match = _MESSAGE.fullmatch(state.message or "")
    if not match:
        raise MathQuarryError(f"a stage ended {state.name} without naming its artifact: {state.message!r}.")
    artifact = Store(store_url).get(match[2], match[3])
    return Produced(f"{match[2]}/{match[3]}", match[1] == "found", artifact.seconds, artifact.summary)
