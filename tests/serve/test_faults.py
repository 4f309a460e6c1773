"""Faults while stages run: work continues afterwards with complete artifacts. docs/faults.md describes this for users."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import MINI, WITH_A_MODEL, Stack, docker, kill_process, stage_container

pytestmark = [pytest.mark.slow, pytest.mark.serve]

LONG = {"batch_tokens": 2048, "context_tokens": 128, "micro_batch_rows": 16, "precision": "float32", "checkpoint_steps": 1}


def fine_tuning(served_run: ServedRun, steps: int, seed: int) -> dict[str, Any]:
    """Parameters of an `sft` run that is new in the store and long enough to break."""
    references = {"base": served_run.reference("pretrain"), "examples": served_run.reference("curate")}
    return {"store": "/store", "config": {**LONG, "steps": steps, "seed": seed}, **references}


def checkpointed(stack: Stack, run_id: str) -> None:
    """Wait until a run has made steps from which a later attempt can continue."""
    stack.wait(lambda: stack.run(run_id)["state"]["name"] == "Running", "the start")
    worker = stack.container("cpu-worker")
    looked = "import pathlib, sys; sys.exit(not any(pathlib.Path('/store/work').glob('*/scratch/**/checkpoint*')))"
    stack.wait(lambda: subprocess.run(["docker", "exec", worker, "python", "-c", looked]).returncode == 0, "a checkpoint")


def test_a_killed_container_is_noticed_and_resumed(stack: Stack, served_run: ServedRun) -> None:
    run_id = stack.trigger("sft", fine_tuning(served_run, 100, seed=11))
    checkpointed(stack, run_id)
    started = time.monotonic()
    docker("kill", "--signal", "KILL", stage_container(stack.run(run_id)))
    # The worker tells of the exit status, unless the engine has removed the container before it looks; then heartbeats are missed.
    assert re.search("137|heartbeat", stack.crashed(run_id))
    print(f"noticed after {time.monotonic() - started:.1f} s")
    stack.retry(run_id)
    assert stack.finished(run_id)["run_count"] == 2
    stack.verify()


@pytest.mark.parametrize(("state", "reason"), [("RUNNING", "No heartbeat"), ("PENDING", "Not started")])
def test_a_run_that_was_lost_with_its_host_is_noticed(stack: Stack, lost_runs: dict[str, str], state: str, reason: str) -> None:
    """It is noticed even before the first heartbeat."""
    assert reason in stack.finished(lost_runs[state], "CRASHED")["state"]["message"]


def test_one_pipeline_survives_what_happens_to_everything_around_it(stack: Stack) -> None:
    """Server, Postgres and worker restart, the pipeline's process is killed; each stage with a model still ran once."""
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "seed": 1, "overrides": MINI}})
    stack.in_state(run_id, "pretrain", "Running")
    docker("restart", "--time", "1", stack.container("server"))
    stack.in_state(run_id, "sft", "Running")
    docker("restart", "--time", "1", stack.container("postgres"))
    stack.in_state(run_id, "evaluate-sft", "Running")
    docker("kill", "--signal", "KILL", stack.container("docker-worker"))
    stack.wait(lambda: stack.children(run_id)["evaluate-sft"]["state"]["type"] == "COMPLETED", "the end of a stage without its worker")
    docker("start", stack.container("docker-worker"))
    stack.in_state(run_id, "reward-0", "Running")
    kill_process(stack.container("cpu-worker"), run_id)
    stack.crashed(run_id)
    stack.retry(run_id)
    stack.finished(run_id)
    counts = {name: run["run_count"] for name, run in stack.children(run_id).items() if run["work_pool_name"] == "gpu"}
    assert counts == dict.fromkeys(WITH_A_MODEL, 1)
    assert {"problems", "crawl", "mine", "curate", *WITH_A_MODEL, "report"} == set(stack.keys(run_id))
    stack.verify()


@pytest.fixture
def memory_limit(stack: Stack):  # type: ignore[no-untyped-def]
    """Set the memory limit of the pool's containers; restored afterwards."""
    pool = stack.api("GET", "/work_pools/gpu")
    template = pool["base_job_template"]
    usual = template["job_configuration"]["mem_limit"]

    def limit(memory: str) -> None:
        template["job_configuration"]["mem_limit"] = memory
        stack.api("PATCH", "/work_pools/gpu", {"base_job_template": template})

    yield limit
    limit(usual)


def test_a_stage_out_of_memory_says_so_and_resumes_with_more(
    stack: Stack, served_run: ServedRun, memory_limit: Callable[[str], None]
) -> None:
    memory_limit("150m")
    run_id = stack.trigger("sft", fine_tuning(served_run, 3, seed=12))
    assert "memory" in stack.crashed(run_id)
    memory_limit("3g")
    stack.retry(run_id)
    stack.finished(run_id)
    stack.verify()


def test_a_locked_ledger_holds_up_no_stage_and_loses_no_row(stack: Stack, served_run: ServedRun) -> None:
    worker = stack.container("cpu-worker")
    holding = "import duckdb, time; held = duckdb.connect('/store/ledger.duckdb'); print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen(["docker", "exec", "-i", worker, "python", "-c", holding], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        run_id = stack.trigger("sft", fine_tuning(served_run, 2, seed=13))
        message = stack.finished(run_id)["state"]["message"]
        stack.wait(lambda: "ledger" in stack.logs(run_id), "the warning")
    finally:
        docker("exec", worker, "python", "-c", KILL_HOLDER)
        holder.wait()
    key = message.split("/")[1]
    # The next run of a pipeline writes what is missing; here it is one that finds everything.
    stack.retry(served_run.id)
    listed = stack.wait(lambda: key in docker("exec", worker, "mathquarry", "ledger", "ls"), "the row")
    assert listed


KILL_HOLDER = """
import os, pathlib, signal
for entry in pathlib.Path('/proc').glob('[0-9]*'):
    if b"duckdb.connect('/store/ledger.duckdb')" in (entry / 'cmdline').read_bytes() and int(entry.name) != os.getpid():
        os.kill(int(entry.name), signal.SIGKILL)
"""


def test_a_full_disk_fails_the_stage_with_a_reason_and_resumes_when_there_is_room(stack: Stack, served_run: ServedRun) -> None:
    stack.in_store(
        "import os; os.posix_fallocate(os.open('/store/filler', os.O_CREAT | os.O_WRONLY), 0, os.statvfs('/store').f_bavail * 4096)"
    )
    try:
        run_id = stack.trigger("sft", fine_tuning(served_run, 3, seed=14))
        assert "Free some space" in stack.finished(run_id, "FAILED")["state"]["message"]
    finally:
        stack.in_store("import os; os.unlink('/store/filler')")
    stack.retry(run_id)
    stack.finished(run_id)
    stack.verify()
