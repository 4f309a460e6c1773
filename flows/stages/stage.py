"""Makes a stage a flow: callable here, runnable from a deployment, and readable in the Prefect UI."""

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

from mathquarry.data.errors import MathQuarryError, NotMade
from mathquarry.data.store.store import Store
from mathquarry.flows.stages.lost import ends_with_its_run
from mathquarry.flows.stages.outcome import said_plainly
from mathquarry.flows.stages.registry import STAGES, stage_of
from mathquarry.tasks.stage import StageResult

P = ParamSpec("P")

ArtifactRef = Annotated[str, Field(pattern=r"^[a-z]+/[0-9a-f]{20}$", examples=["sft/0123456789abcdef0123"])]
"""Reference of an artifact, `stage/key`, as a stage's summary in the UI and `mathquarry ledger ls` show it."""

_TASKS: dict[str, Task[..., Any]] = {}
"""Name of a stage's flow -> its task, which takes the same arguments."""
_MESSAGE = re.compile(r"(made|found) ([a-z]+)/([0-9a-f]{20})")


def stage_flow(name: str, task: Task[P, Any]) -> Callable[[Callable[P, StageResult]], Flow[P, StageResult]]:
    """A flow around a stage's task that ends Completed with a message naming its artifact: "made sft/<key>".

    The message is all that a pipeline gets from a stage that ran elsewhere. It arrives as part of the state.
    """

    def decorate(function: Callable[P, StageResult]) -> Flow[P, StageResult]:
        @said_plainly
        @functools.wraps(function)
        def run(*arguments: P.args, **keywords: P.kwargs) -> State[StageResult]:
            with ends_with_its_run():
                produced = function(*arguments, **keywords)
            return Completed(message=message_of(produced), data=produced)

        assert stage_of(name) in STAGES, f"{name} belongs to no stage of the registry"
        _TASKS[name] = task
        # Prefect returns the state's data to a caller in this process.
        return flow(name=name)(cast(Callable[P, StageResult], run))

    return decorate


def message_of(produced: StageResult) -> str:
    """The message of a stage's final state: the artifact, and whether it was made or found."""
    return f"{'found' if produced.reused else 'made'} {produced.ref}"


def find_artifact(stage_flow: Flow[..., StageResult], arguments: Mapping[str, Any]) -> StageResult | None:
    """What the stage would find in the store, without running it; None if there is nothing, or if it must be made again.

    Also None if only the stage's own container can tell: a source does not exist here, or a library is not installed here.
    """
    if arguments.get("mode") == "rebuild":
        return None
    try:
        # In a separate context, nothing appears on the page of the calling run.
        found = Context().run(_TASKS[stage_flow.name].fn, **{**arguments, "mode": "require"})
    except (MathQuarryError, ImportError):
        return None
    return cast(StageResult, found)


def is_being_made(stage_flow: Flow[..., StageResult], arguments: Mapping[str, Any]) -> bool:
    """Whether a process on this host is making what the stage would make. Also False if only the stage's own container can tell."""
    try:
        key = Context().run(_TASKS[stage_flow.name].fn, **{**arguments, "mode": "require"}).key
    except NotMade as missing:
        key = missing.key
    except (MathQuarryError, ImportError):
        return False
    return Store(arguments["store"]).being_made(key)


def produced_by(state: State, store_url: str) -> StageResult:
    """The result of a stage that ran elsewhere, from its final state and the artifact's manifest."""
    match = _MESSAGE.fullmatch(state.message or "")
    if not match:
        raise MathQuarryError(f"a stage ended {state.name} without naming its artifact: {state.message!r}.")
    artifact = Store(store_url).get(match[2], match[3])
    return StageResult(f"{match[2]}/{match[3]}", match[1] == "found", artifact.seconds, artifact.summary)
