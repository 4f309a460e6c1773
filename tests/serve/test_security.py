"""Who may ask, what a run may get, and where secrets may lie."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import Stack, docker

pytestmark = [pytest.mark.slow, pytest.mark.serve]


@pytest.mark.parametrize("auth", [None, httpx.BasicAuth("mathquarry", "wrong")])
def test_the_api_refuses_who_does_not_know_the_auth_string(stack: Stack, auth: httpx.BasicAuth | None) -> None:
    for method, path in (("POST", "/deployments/filter"), ("POST", "/flow_runs/filter"), ("POST", "/work_pools/filter")):
        assert httpx.request(method, f"{stack.url}/api{path}", json={}, auth=auth).status_code == 401


@pytest.mark.parametrize(
    "variables",
    [
        {"volumes": ["/:/host"]},
        {"privileged": True},
        {"networks": ["bridge"]},
        {"network_mode": "host"},
        {"image": "debian:bookworm-slim"},
        {"command": "id"},
        {"env": {"LD_PRELOAD": "/data/evil.so"}},
        {"container_create_kwargs": {"pid_mode": "host", "devices": ["/dev/sda"]}},
        {"mem_limit": "1000g"},
    ],
)
@pytest.mark.parametrize("deployment", ["sft", "pipeline"])
def test_a_run_cannot_ask_for_more_than_its_pool_gives(stack: Stack, deployment: str, variables: dict[str, Any]) -> None:
    found = stack.deployment(deployment)
    run = {"parameters": {}, "job_variables": variables, "enforce_parameter_schema": False}
    stack.api("POST", f"/deployments/{found['id']}/create_flow_run", run, status=422)


def test_wrong_parameters_are_refused_before_anything_starts(stack: Stack) -> None:
    found = stack.deployment("pipeline")
    for fields in ({"recipe": "huge"}, {"iterations": -1}, {"overrides": ["nonsense"]}):
        stack.api("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": {"run": fields}}, status=409)


def test_an_override_that_does_not_fit_fails_the_run_before_a_stage_starts(stack: Stack) -> None:
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "overrides": ["grpo.kl_coeff=0.1"]}})
    assert "did you mean kl_coef" in stack.finished(run_id, "FAILED")["state"]["message"]
    assert stack.children(run_id) == {}


def test_a_stage_has_the_rights_its_pool_says(stack: Stack, served_run: ServedRun) -> None:
    parameters = {"config": {"steps": 60, "batch_tokens": 2048, "context_tokens": 128, "precision": "float32"}}
    parameters |= {"store": "/store", "base": served_run.reference("pretrain"), "examples": served_run.reference("curate")}
    run_id = stack.trigger("sft", parameters)
    stack.wait(lambda: stack.run(run_id)["infrastructure_pid"], "the container")
    name = docker("ps", "--latest", "--quiet", "--filter", "label=mathquarry=stage", "--filter", f"network={stack.name}-stages")
    container = json.loads(docker("inspect", name))[0]
    host = container["HostConfig"]
    assert (host["Privileged"], host["CapDrop"], host["SecurityOpt"]) == (False, ["ALL"], ["no-new-privileges"])
    assert {mount["Destination"]: mount["RW"] for mount in container["Mounts"]} == {
        "/store": True,
        "/data": False,
        "/run/mathquarry": False,
    }
    assert list(container["NetworkSettings"]["Networks"]) == [f"{stack.name}-stages"]
    assert container["Config"]["User"] == "mathquarry"
    stack.api("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    stack.finished(run_id, "CANCELLED")


def test_secrets_are_not_in_images_logs_manifests_or_the_ledger(stack: Stack, served_run: ServedRun) -> None:
    secrets = [stack.auth.split(":")[1], stack.password]
    for service in ("server", "cpu-worker", "docker-worker", "deploy", "reports"):
        container = stack.container(service)
        image = docker("inspect", "--format", "{{.Image}}", container)
        said = docker("history", "--no-trunc", image) + docker("inspect", image) + docker("logs", container)
        assert not [secret for secret in secrets if secret in said], service
    for child in [served_run.id, *(run["id"] for run in stack.children(served_run.id).values())]:
        assert not [secret for secret in secrets if secret in stack.logs(child)]
    looked = f"""
import pathlib
secrets = {[secret.encode() for secret in secrets]!r}
files = [path for path in pathlib.Path('/store').rglob('*') if path.is_file()]
print(len(files), [str(path) for path in files if any(secret in path.read_bytes() for secret in secrets)])
"""
    count, found = stack.in_store(looked).split(maxsplit=1)
    assert int(count) > 20
    assert found == "[]"


def test_only_the_docker_worker_has_the_sockets_power(stack: Stack) -> None:
    for service in ("postgres", "server", "cpu-worker", "reports"):
        mounts = json.loads(docker("inspect", stack.container(service)))[0]["Mounts"]
        assert not any("docker.sock" in mount["Source"] for mount in mounts), service
