"""`mathquarry deploy`: everything the Prefect server has to know, created or brought up to date; running it again changes nothing.

Two work pools. `cpu` runs the pipeline and the stages without a model as processes of its worker. `gpu` starts one Docker container for
each stage with a model; what such a container may do (image, volumes, network, memory, GPUs, environment) is written into the pool itself,
which offers no job variables, so a run cannot ask for more. On a host without a GPU the same deployments run with the CPU image.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, cast

import httpx
from prefect import Flow
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Schedule
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from data.errors import MathQuarryError
from data.programs.container import INSIDE
from flows.crawl import crawl_flow
from flows.curate import curate_flow
from flows.evaluate import evaluate_flow
from flows.grpo import grpo_flow
from flows.harness import harness_flow
from flows.mine import mine_flow
from flows.pretrain import pretrain_flow
from flows.problems import problems_flow
from flows.rejection import rejection_flow
from flows.report import report_flow
from flows.reward import reward_flow, reward_refresh_flow
from flows.served import grpo_iteration_flow, mine_snapshots_flow, served_ablate, served_compare, served_pipeline
from flows.sft import sft_flow

CPU_POOL, GPU_POOL = "cpu", "gpu"
CPU_STAGES: tuple[Flow[..., Any], ...] = (problems_flow, crawl_flow, mine_flow, curate_flow, report_flow)
GPU_STAGES: tuple[Flow[..., Any], ...] = (
    pretrain_flow,
    sft_flow,
    rejection_flow,
    reward_flow,
    reward_refresh_flow,
    grpo_flow,
    evaluate_flow,
    harness_flow,
)
HEARTBEAT_AUTOMATION = "crash runs without a heartbeat"
START_AUTOMATION = "crash runs that never start"
SERVER_SECONDS = 180


class DeploySettings(BaseSettings):
    """What `mathquarry deploy` reads from the environment (`docker/compose.yaml` sets it)."""

    model_config = SettingsConfigDict(env_prefix="MATHQUARRY_")

    stage_image: str = Field(description="Image of the stages with a model, with its tag.")
    network: str = Field("mathquarry", description="Docker network that the stages share with the server.")
    internet_network: str = Field("", description="Docker network with a way out, which the stages join too where there is one.")
    store_volume: str = Field("mathquarry-store", description="Volume, or folder of the host, that is mounted as /store.")
    sandbox_volume: str = Field("mathquarry-sandbox", description="Volume with the socket of the sandbox for programs.")
    data_volume: str = Field("mathquarry-data", description="Volume, or folder of the host, that is mounted read-only as /data.")
    gpus: int = Field(0, ge=0, description="GPUs of the host. A stage gets all of them.")
    stages_at_once: int = Field(1, ge=1, description="Containers at a time on a host without a GPU; with GPUs it is one.")
    memory: str = Field("8g", description="Memory of a stage's container.")
    shared_memory: str = Field("1g", description="Shared memory of a stage's container.")
    threads: int = Field(0, ge=0, description="Threads of a stage's arithmetic on the CPU; 0: one for each core.")
    processes: int = Field(4096, ge=64, description="Most processes and threads in a stage's container.")
    heartbeat_seconds: int = Field(30, ge=30, description="Time between the heartbeats of a run.")
    start_seconds: int = Field(900, ge=60, description="Longest time from a worker's taking a run to its start.")
    reports_url: str = Field("", description="Where a browser finds the reports.")


def deploy(settings: DeploySettings) -> list[str]:
    """Bring the server up to date. Returns a line for each thing, as the command prints them."""
    with get_client(sync_client=True) as client:
        _wait_for_server(client)
        _work_pool(client, CPU_POOL, "process", process_template(settings), limit=None)
        _work_pool(client, GPU_POOL, "docker", container_template(settings), limit=1 if settings.gpus else settings.stages_at_once)
        lines = [f"work pool {CPU_POOL}: processes", f"work pool {GPU_POOL}: {settings.stage_image}, {settings.gpus or 'no'} GPUs"]
        ours = []
        for deployment in [start_here(), *deployments()]:
            ours.append(f"prefect.deployment.{deployment.apply()}")
            lines.append(f"deployment {deployment.flow_name}/{deployment.name} on {deployment.work_pool_name}")
        for automation in automations(settings, ours):
            _automation(automation)
            lines.append(f"automation: {automation.name}")
        return lines


def start_here() -> RunnerDeployment:
    """The pipeline once more, under a name that comes first in the UI's list, which goes by the alphabet."""
    return _deployment(served_pipeline, CPU_POOL, "1 pipeline", tags=["start here"])


def deployments() -> list[RunnerDeployment]:
    """The pipeline, the comparisons, every stage, and the two that run on a schedule; schedules are off until somebody switches them on."""
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


def automations(settings: DeploySettings, deployments: list[str]) -> list[Automation]:
    """What notices a run whose worker died with it, which would else stay *Running* or *Pending* for ever.

    `deployments` are the resource names of the deployments that are watched: runs of others on the same server may have no heartbeats.
    """
    return [
        # The first heartbeat can be lost with its process, so the start counts too. Three, since one can be late on a busy host.
        _silence(
            HEARTBEAT_AUTOMATION,
            deployments,
            {"prefect.flow-run.Running", "prefect.flow-run.heartbeat"},
            3 * settings.heartbeat_seconds,
            "No heartbeat: the process or its host is gone. Retry resumes it.",
        ),
        _silence(
            START_AUTOMATION,
            deployments,
            {"prefect.flow-run.Pending", "prefect.flow-run.Submitting"},
            settings.start_seconds,
            f"Not started {settings.start_seconds} seconds after a worker took it: the worker or its host is gone. Retry starts it again.",
        ),
    ]


def _silence(name: str, deployments: list[str], after: set[str], seconds: int, message: str) -> Automation:
    """Crash a run of which nothing more is heard for so long after one of these events."""
    return Automation(
        name=name,
        description=f"Limit: {seconds} seconds of silence. A worker that dies with its run leaves the run as it was; this notices.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.id": deployments}),
            after=after,
            expect={"prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def process_template(settings: DeploySettings) -> dict[str, Any]:
    """Base job template of the `cpu` pool: a process in its worker's container, without job variables."""
    return {
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
        # With a command of its own a run needs no process that first works out where its code is: it is installed.
        "job_configuration": {"env": _environment(settings), "stream_output": True, "command": "python -m prefect.engine"},
    }


def container_template(settings: DeploySettings) -> dict[str, Any]:
    """Base job template of the `gpu` pool: every right of a stage's container, and no job variables to change one."""
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
            "command": "python -m flows.supervise",
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


def _automation(automation: Automation) -> None:
    """Create it, or bring the one of its name up to date."""
    try:
        automation.id = cast(Automation, Automation.read(name=automation.name)).id
        automation.update()
    except (ValueError, ObjectNotFound):
        automation.create()
