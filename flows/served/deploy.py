"""`mathquarry deploy`: creates or updates everything that the Prefect server needs; running it again changes nothing.

There are two work pools. `cpu` runs the pipeline and the stages without a model as processes of its worker. `gpu` starts one Docker
container per stage with a model. The pool itself sets what the container may do (image, volumes, network, memory, GPUs, environment) and
has no job variables, so a run cannot request more. On a host without a GPU the same deployments run with the CPU image.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.schedules import Schedule
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.container import INSIDE
from mathquarry.flows.served.flows import grpo_iteration_flow, mine_snapshots_flow, served_ablate, served_compare, served_pipeline
from mathquarry.flows.stages.crawl import crawl_flow
from mathquarry.flows.stages.curate import curate_flow
from mathquarry.flows.stages.evaluate import evaluate_flow
from mathquarry.flows.stages.grpo import grpo_flow
from mathquarry.flows.stages.harness import harness_flow
from mathquarry.flows.stages.imports import import_corpus_flow, import_flow
from mathquarry.flows.stages.mine import mine_flow
from mathquarry.flows.stages.pretrain import pretrain_flow
from mathquarry.flows.stages.problems import problems_flow
from mathquarry.flows.stages.rejection import rejection_flow
from mathquarry.flows.stages.report import report_flow
from mathquarry.flows.stages.reward import reward_flow, reward_refresh_flow
from mathquarry.flows.stages.sft import sft_flow

CPU_POOL, GPU_POOL = "cpu", "gpu"
CPU_STAGES: tuple[Flow[..., Any], ...] = (import_corpus_flow, problems_flow, crawl_flow, mine_flow, curate_flow, report_flow)
GPU_STAGES: tuple[Flow[..., Any], ...] = (
    import_flow,
    pretrain_flow,
    sft_flow,
    rejection_flow,
    reward_flow,
    reward_refresh_flow,
    grpo_flow,
    evaluate_flow,
    harness_flow,
)
SERVER_SECONDS = 180


class DeploySettings(BaseSettings):
    """Settings of `mathquarry deploy`, read from the environment (`docker/compose.yaml` sets them)."""

    model_config = SettingsConfigDict(env_prefix="MATHQUARRY_")

    stage_image: str = Field(description="Image of the stages with a model, with its tag.")
    network: str = Field("mathquarry", description="Docker network that the stages share with the server.")
    internet_network: str = Field("", description="Docker network with internet access that the stages also join, if set.")
    store_volume: str = Field("mathquarry-store", description="Volume, or folder of the host, mounted as /store.")
    sandbox_volume: str = Field("mathquarry-sandbox", description="Volume with the socket of the sandbox for programs.")
    data_volume: str = Field("mathquarry-data", description="Volume, or folder of the host, mounted read-only as /data.")
    gpus: int = Field(0, ge=0, description="GPUs of the host. A stage gets all of them.")
    stages_at_once: int = Field(1, ge=1, description="Concurrent containers on a host without a GPU; with GPUs it is one.")
    memory: str = Field("8g", description="Memory of a stage's container.")
    shared_memory: str = Field("1g", description="Shared memory of a stage's container.")
    threads: int = Field(0, ge=0, description="CPU threads for a stage's arithmetic; 0: one per core.")
    processes: int = Field(4096, ge=64, description="Most processes and threads in a stage's container.")
    heartbeat_seconds: int = Field(30, ge=30, description="Time between the heartbeats of a run.")
    start_seconds: int = Field(300, ge=60, description="Longest time between a worker picking up a run and the run's start.")
    reports_url: str = Field("", description="URL of the reports for a browser.")


def deploy(settings: DeploySettings) -> list[str]:
    """Update the server. Returns one line per item, as the command prints them."""
    with get_client(sync_client=True) as client:
        _wait_for_server(client)
        _work_pool(client, CPU_POOL, "process", process_template(settings), limit=None)
        _work_pool(client, GPU_POOL, "docker", container_template(settings), limit=1 if settings.gpus else settings.stages_at_once)
        lines = [f"work pool {CPU_POOL}: processes", f"work pool {GPU_POOL}: {settings.stage_image}, {settings.gpus or 'no'} GPUs"]
        for deployment in [start_here(), *deployments()]:
            deployment.apply()
            lines.append(f"deployment {deployment.flow_name}/{deployment.name} on {deployment.work_pool_name}")
        return lines


def start_here() -> RunnerDeployment:
    """The pipeline again, under a name that comes first in the UI's alphabetical list."""
    return _deployment(served_pipeline, CPU_POOL, "1 pipeline", tags=["start here"])


def deployments() -> list[RunnerDeployment]:
    """The pipeline, the comparisons, every stage, and the two that run on a schedule. Schedules are off until somebody turns them on."""
    once = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    weekly: dict[str, Any] = {"go_on": {"recipe": "any", "overrides": []}}
    nightly: dict[str, Any] = {"snapshots": {"recipe": "smollm", "snapshots": "/data/crawls", "overrides": []}}
    return [
        _deployment(served_pipeline, CPU_POOL, tags=["start here"]),
        _deployment(served_compare, CPU_POOL),
        _deployment(served_ablate, CPU_POOL),
        _deployment(
            grpo_iteration_flow,
            CPU_POOL,
            concurrency_limit=once,
            schedules=[Schedule(cron="0 3 * * 1", timezone="UTC", active=False, slug="weekly", parameters=weekly)],
        ),
        _deployment(
            mine_snapshots_flow,
            CPU_POOL,
            concurrency_limit=once,
            schedules=[Schedule(cron="0 1 * * *", timezone="UTC", active=False, slug="nightly", parameters=nightly)],
        ),
        *(_deployment(stage, CPU_POOL, parameters={"store": "/store"}, tags=["stage"]) for stage in CPU_STAGES),
        *(_deployment(stage, GPU_POOL, parameters={"store": "/store"}, tags=["stage", "model"]) for stage in GPU_STAGES),
    ]


def process_template(settings: DeploySettings) -> dict[str, Any]:
    """Base job template of the `cpu` pool: a process in its worker's container, without job variables."""
    return {
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
        # With its own command, a run needs no process that first locates its code: it is installed.
        "job_configuration": {"env": _environment(settings), "stream_output": True, "command": "python -m prefect.engine"},
    }


def container_template(settings: DeploySettings) -> dict[str, Any]:
    """Base job template of the `gpu` pool: sets every right of a stage's container, without job variables to change one."""
    kwargs: dict[str, Any] = {
        "shm_size": settings.shared_memory,
        "pids_limit": settings.processes,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
    }
    if settings.gpus:
        kwargs["device_requests"] = [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}]
    return {
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
        "job_configuration": {
            "command": "python -m mathquarry.flows.served.supervise",
            "image": settings.stage_image,
            "image_pull_policy": "Never",
            "networks": [settings.network, *([settings.internet_network] if settings.internet_network else [])],
            "volumes": [f"{settings.store_volume}:/store", f"{settings.data_volume}:/data:ro", f"{settings.sandbox_volume}:{INSIDE}:ro"],
            "mem_limit": settings.memory,
            "privileged": False,
            "auto_remove": True,
            "stream_output": True,
            "env": {**_environment(settings), "MATHQUARRY_SANDBOX": f"{INSIDE}/socket"},
            "labels": {"mathquarry": "stage"},
            "container_create_kwargs": kwargs,
        },
    }


def _environment(settings: DeploySettings) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(settings.threads)} if settings.threads else {}
    return {
        **threads,
        "MATHQUARRY_STORE": "/store",
        "MATHQUARRY_REPORTS_URL": settings.reports_url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(settings.heartbeat_seconds),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "mathquarry",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _deployment(flow: Flow[..., Any], pool: str, name: str | None = None, **options: Any) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        flow,
        name=name or flow.name,
        work_pool_name=pool,
        description=(flow.description or "").partition("Args:")[0].strip(),
        entrypoint_type=EntrypointType.MODULE_PATH,
        **options,
    )


def _wait_for_server(client: SyncPrefectClient) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while (error := client.api_healthcheck()) is not None:
        if time.monotonic() > deadline:
            raise MathQuarryError(f"the Prefect server at {client.api_url} does not answer: {error}. Is it up (`make up`)?")
        time.sleep(1)
    try:
        client.read_work_pools()
    except httpx.HTTPStatusError as refused:
        raise MathQuarryError(
            f"the Prefect server at {client.api_url} refused: {refused.response.status_code}. Is PREFECT_API_AUTH_STRING the server's?"
        ) from None


def _work_pool(client: SyncPrefectClient, name: str, kind: str, template: dict[str, Any], limit: int | None) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template, concurrency_limit=limit))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template, concurrency_limit=limit))
