"""The work pool fixes the rights of a stage's container; a run cannot change them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from mathquarry.data.programs.client import limits
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.container import options
from mathquarry.flows.served.deploy import DeploySettings, container_template, deployments, process_template

REPOSITORY = Path(__file__).parents[3]
SETTINGS = DeploySettings(stage_image="mathquarry-cpu:1")


def test_the_pools_offer_no_job_variables() -> None:
    for template in (process_template(SETTINGS), container_template(SETTINGS)):
        assert template["variables"] == {"type": "object", "properties": {}, "additionalProperties": False}
        assert "{{" not in str(template["job_configuration"])


def test_a_container_gets_the_store_read_only_data_and_one_network() -> None:
    job = container_template(SETTINGS)["job_configuration"]
    assert job["volumes"] == ["mathquarry-store:/store", "mathquarry-data:/data:ro", "mathquarry-sandbox:/run/mathquarry:ro"]
    assert job["networks"] == ["mathquarry"]
    assert job["privileged"] is False
    assert job["container_create_kwargs"]["cap_drop"] == ["ALL"]


def test_the_sandbox_of_the_services_is_enclosed_like_one_that_is_started_here() -> None:
    config = ProgramsConfig()
    service = yaml.safe_load((REPOSITORY / "docker" / "compose.yaml").read_text())["services"]["sandbox"]
    assert json.loads(service["command"][0]) == asdict(limits(config))
    written = {
        f"--network={service['network_mode']}",
        "--read-only" if service["read_only"] else "",
        *(f"--cap-drop={capability}" for capability in service["cap_drop"]),
        *(f"--security-opt={option.removesuffix(':true')}" for option in service["security_opt"]),
        f"--user={service['user']}",
        f"--ipc={service['ipc']}",
        *(f"--tmpfs={option}" for option in service["tmpfs"]),
        f"--memory={service['mem_limit']}",
        f"--memory-swap={service['memswap_limit']}",
        f"--pids-limit={service['pids_limit']}",
        *(f"--ulimit={name}={value}" for name, value in service["ulimits"].items()),
        f"--log-driver={service['logging']['driver']}",
        f"--hostname={service['hostname']}",
    }
    # How many cores there are, docker/up finds out.
    assert written == {option for option in options(config) if not option.startswith("--cpus")}


@pytest.mark.parametrize(("gpus", "requested"), [(0, False), (1, True), (8, True)])
def test_gpus_are_requested_only_where_there_are_some(gpus: int, requested: bool) -> None:
    settings = SETTINGS.model_copy(update={"gpus": gpus})
    assert ("device_requests" in container_template(settings)["job_configuration"]["container_create_kwargs"]) is requested


def test_stages_with_a_model_go_to_the_container_pool_and_no_others() -> None:
    pools = {deployment.name: deployment.work_pool_name for deployment in deployments()}
    assert {name for name, pool in pools.items() if pool == "gpu"} == {
        "import",
        "pretrain",
        "sft",
        "rejection",
        "reward",
        "reward-refresh",
        "grpo",
        "evaluate",
        "harness",
    }


def test_schedules_are_off_and_never_overlap() -> None:
    scheduled = [deployment for deployment in deployments() if deployment.schedules]
    assert {deployment.name for deployment in scheduled} == {"grpo-iteration", "mine-snapshots"}
    for deployment in scheduled:
        assert not any(schedule.active for schedule in deployment.schedules or [])
        assert deployment.concurrency_limit == 1


def test_deploying_needs_no_torch() -> None:
    program = (
        "import sys; from mathquarry.flows.served import deploy; deploy.deployments()\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
