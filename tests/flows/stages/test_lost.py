"""A process that should end tells the server so first, however often it takes."""

from __future__ import annotations

import threading
from types import TracebackType
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling

from mathquarry.flows.stages import lost


class BusyServer:
    """A server where each of the first `failures` attempts to set a state times out."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.states: list[str | None] = []

    def __enter__(self) -> BusyServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def read_flow_run(self, run_id: UUID) -> FlowRun:
        return FlowRun(id=run_id, flow_id=uuid4(), state=Cancelling())

    def set_flow_run_state(self, run_id: UUID, state: State, force: bool) -> None:
        self.states.append(state.name)
        if len(self.states) <= self.failures:
            raise httpx.ReadTimeout("busy")


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_process_ends_once_the_server_has_confirmed_that_its_run_is_cancelled(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server = BusyServer(failures)
    monkeypatch.setattr(lost, "get_client", lambda sync_client: server)
    assert lost.until_lost(uuid4(), threading.Event(), look=0.0, grace=0.0) == "it is Cancelling"
    assert server.states == ["Cancelled"] * (failures + 1)
