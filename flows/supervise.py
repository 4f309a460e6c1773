"""First process of a stage's container: runs Prefect's engine, ends it with its run, and tells the server when it was killed.

Prefect's own command for this, `prefect flow-run execute`, takes one more process that first works out where the flow's code is. Here it is
installed, and the stage starts seconds sooner. What is used of Prefect is not its public interface: it is pinned to one version.
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

from flows.lost import STOP_SECONDS, until_lost


async def supervise(run_id: UUID, command: str | None = None) -> int:
    """Execute a flow run by `command`, the engine, in a process of its own.

    Returns the container's exit status: 0 when the server knows how the run ended or has it no more, else the engine's, for the worker
    outside to report.
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
            # What Prefect would say of the engine's end, nobody waits for.
            work.cancel()
            return 0
        result = await work
        ended.set()
    if result is None or not result.crash_unreported:
        return 0
    # A cancelled run's engine was killed too, by which time the server knows.
    async with get_client() as client:
        state = (await client.read_flow_run(run_id)).state
    if state is not None and state.is_final():
        return 0
    status = result.status_code or 1
    # A signal's counted as a shell does.
    return status if status > 0 else 128 - status


if __name__ == "__main__":
    sys.exit(asyncio.run(supervise(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))))
