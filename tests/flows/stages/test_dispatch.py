"""How a pipeline starts, retries and cancels the runs of its stages."""

from __future__ import annotations

import pytest
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Suspended

from mathquarry.flows.stages.dispatch import _worth_another_try


@pytest.mark.parametrize(
    ("message", "again"),
    [
        ("No heartbeat: the process or its host is gone.", True),
        ("Flow run could not start: the server is away", True),
        (None, True),
        # Killed: by its memory limit, most likely, which another try would meet again.
        ("Flow run infrastructure exited with non-zero status code 137. Process was killed", False),
        ("Process exited with status code: -9. The process was terminated by SIGKILL.", False),
    ],
)
def test_a_crashed_stage_is_tried_again_unless_it_was_killed(message: str | None, again: bool) -> None:
    assert _worth_another_try(Crashed(message=message)) is again


@pytest.mark.parametrize("state", [Completed(), Failed(message="no such file"), Cancelled(), Running(), Suspended()])
def test_a_stage_that_did_not_crash_is_not_tried_again(state) -> None:  # type: ignore[no-untyped-def]
    assert not _worth_another_try(state)
