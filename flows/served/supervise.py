"""First process of a stage's container: runs Prefect's engine, ends it with its run, and tells the server if it was killed.

Prefect's own command for this, `prefect flow-run execute`, needs another process that first locates the flow's code. Here the code is
installed, and the stage starts seconds sooner. This uses non-public parts of Prefect, so Prefect is pinned to one version.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.flows import load_flow_from_flow_run
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._starter_engine import EngineCommandStarter

from mathquarry.flows.stages.lost import STOP_SECONDS, until_lost


async def supervise(run_id: UUID, command: str | None = None) -> int:
    """Execute a flow run with `command`, the engine, in a separate process.

    Returns the container's exit status: 0 if the server knows how the run ended or no longer has it, else the engine's status, for the
    worker outside to report.
    """
    async with FlowRunExecutorContext() as context:
        run = await context.client.read_flow_run(run_id)
        starter = EngineCommandStarter(command=command, control_channel=context.control_channel)
        executor = context.create_executor(run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False)
        ended = threading.Event()
        work = asyncio.ensure_future(executor.submit())
        watch = asyncio.ensure_future(asyncio.to_thread(until_lost, run_id, ended))
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and watch.exception() is None:
            print(f"flow run {run_id} ends here: {watch.result()}", file=sys.stderr, flush=True)
            await context.process_manager.kill(run_id, grace_seconds=STOP_SECONDS)
            # Nobody needs Prefect's report about the engine's end.
            work.cancel()
            return 0
        result = await work
        ended.set()
    if result is None or not result.crash_unreported:
        return 0
    # The engine of a canceled run is killed too, but then the server already knows.
    async with get_client() as client:
        state = (await client.read_flow_run(run_id)).state
    if state is not None and state.is_final():
        return 0
    status = result.status_code or 1
    # A signal becomes an exit status as in a shell.
    return status if status > 0 else 128 - status


if __name__ == "__main__":
    sys.exit(asyncio.run(supervise(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))))
