"""First process of a stage's container: runs Prefect's engine, and says so when the engine was killed.

A container that the kernel's memory limit or a `kill -9` empties ends faster than its worker looks, and its exit status can be lost; who
stays behind inside can tell at once. Prefect's own command for this starts Python and Prefect twice more, seconds of every stage.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from uuid import UUID

ENGINE = (sys.executable, "-m", "prefect.engine")


def supervise(run_id: str, command: Sequence[str] = ENGINE) -> int:
    """Run `command`, the engine of a flow run, to its end; returns its exit status as a shell counts it.

    Where that is not 0, the run is reported as crashed, with the reason. A run that the engine has ended itself stays as it is.
    """
    # Who stops the container signals every process in it. The engine decides what that means; a handler, unlike "ignore", is not inherited.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    status = subprocess.Popen(command).wait()
    if status:
        _report(UUID(run_id), status)
    return status if status >= 0 else 128 - status


def _report(run_id: UUID, status: int) -> None:
    # Imported where it is needed: a stage that ends well does not wait for a second Prefect.
    from prefect.client.orchestration import get_client
    from prefect.exceptions import Abort
    from prefect.states import Crashed
    from prefect.utilities.engine import propose_state_sync

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
        if state is not None and state.is_final():
            return
        try:
            propose_state_sync(client, Crashed(message=reason(status)), flow_run_id=run_id)
        except Abort:
            # The server knows better, for instance that the run has just been cancelled.
            print("The server keeps the run's state.", file=sys.stderr)


def reason(status: int) -> str:
    """What an exit status says, for the run's page: negative for a signal, as `subprocess` counts."""
    if status >= 0:
        return f"The run's process ended with exit status {status}; its container's log has the reason."
    name = signal.Signals(-status).name
    cause = " If nobody did it, its memory limit did (MATHQUARRY_MEMORY)." if status == -signal.SIGKILL else ""
    return f"The run's process was killed by {name} (exit status {128 - status}).{cause}"


if __name__ == "__main__":
    sys.exit(supervise(os.environ["PREFECT__FLOW_RUN_ID"]))
