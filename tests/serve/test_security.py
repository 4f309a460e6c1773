"""Who may call the server, what a run may access, and where secrets may be."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serve.conftest import ServedRun
from tests.serve.stack import MINI, Stack, docker

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
    for fields, reason in (
        ({"recipe": "huge"}, "'huge' is not one of"),
        ({"iterations": -1}, "-1 is less than the minimum"),
        ({"overrides": ["nonsense"]}, "'nonsense' is not one of ['section.field=value"),
    ):
        answer = stack.api("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": {"run": fields}}, status=409)
        assert reason in str(answer)


def test_an_override_that_does_not_fit_fails_the_run_before_a_stage_starts(stack: Stack) -> None:
    run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "overrides": ["grpo.kl_coeff=0.1"]}})
    message = stack.finished(run_id, "FAILED")["state"]["message"]
    assert message.startswith("recipe tiny does not fit:")
    assert "did you mean kl_coef" in message
    assert stack.children(run_id) == {}
    # No traceback around it, and log and page say what to do. A run's last lines reach the server after its state.
    advice = rf"First: Correct the field and start a new run.*\nMore: {stack.url}/v2/artifacts/artifact/"
    stack.says(run_id, advice)
    assert "Traceback" not in stack.logs(run_id)
    assert "Correct the field and start a new run" in stack.page(run_id, "failure")


def test_a_stage_has_the_rights_its_pool_says(stack: Stack, served_run: ServedRun) -> None:
    parameters = {"config": {"steps": 60, "batch_tokens": 2048, "context_tokens": 128, "precision": "float32"}}
    parameters |= {"store": "/store", "base": served_run.reference("pretrain"), "examples": served_run.reference("curate")}
    run_id = stack.trigger("sft", parameters)
    stack.wait(lambda: stack.run(run_id)["infrastructure_pid"], "the container")
    name = docker("ps", "--latest", "--quiet", "--filter", "label=mathquarry=stage", "--filter", f"network={stack.name}-stages")
    container = json.loads(docker("inspect", name))[0]
    host = container["HostConfig"]
    assert (host["Privileged"], host["CapDrop"], host["SecurityOpt"]) == (False, ["ALL"], ["no-new-privileges"])
    writable = {mount["Destination"]: mount["RW"] for mount in container["Mounts"]}
    assert [place for place, allowed in writable.items() if allowed] == ["/store"]
    assert {"/data", "/run/mathquarry", "/store/runs", "/store/artifacts/pretrain", "/store/artifacts/curate"} <= set(writable)
    said = docker("exec", name, "python", "-c", REACHING, status=None).splitlines()
    assert said == ["server reached", "host not reached", "outside not reached", "input cannot be written", "work can be written"]
    assert list(container["NetworkSettings"]["Networks"]) == [f"{stack.name}-stages"]
    assert container["Config"]["User"] == "mathquarry"
    stack.api("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    stack.finished(run_id, "CANCELLED")


REACHING = """
import pathlib, socket

def reaches(address):
    try:
        socket.create_connection(address, 2)
        return True
    except OSError:
        return False

lines = pathlib.Path("/proc/net/route").read_text().splitlines()[1:]
gateways = [socket.inet_ntoa(bytes.fromhex(line.split()[2])[::-1]) for line in lines if int(line.split()[2], 16)]
print("server", "reached" if reaches(("server", 4200)) else "not reached")
# A port that is closed answers too, where there is somebody to answer.
def answers(host):
    try:
        socket.create_connection((host, 9), 2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True

print("host", "reached" if any(map(answers, [*gateways, "host.docker.internal"])) else "not reached")
print("outside", "reached" if answers("192.0.2.1") or reaches(("1.1.1.1", 53)) else "not reached")
target = next(pathlib.Path("/store/artifacts/pretrain").iterdir()) / "manifest.json"
for name, file in (("input", target), ("work", pathlib.Path("/store/work/probe"))):
    try:
        file.open("a").close()
        print(name, "can be written")
    except OSError:
        print(name, "cannot be written")
"""


def test_a_pool_that_was_changed_starts_no_other_container(stack: Stack, served_run: ServedRun) -> None:
    usual = stack.api("GET", "/work_pools/gpu")["base_job_template"]
    parameters = {"store": "/store", "config": {}, "base": served_run.reference("pretrain"), "examples": served_run.reference("curate")}
    try:
        changed = {**usual["job_configuration"], "volumes": ["/:/host"], "privileged": True}
        stack.api("PATCH", "/work_pools/gpu", {"base_job_template": {**usual, "job_configuration": changed}})
        run_id = stack.trigger("sft", parameters)
        run = stack.finished(run_id, "CRASHED")
    finally:
        stack.api("PATCH", "/work_pools/gpu", {"base_job_template": usual})
    assert "asks for another volumes, privileged than the settings of this host allow" in run["state"]["message"]
    assert "Traceback" not in stack.logs(run_id)
    assert not run["infrastructure_pid"]


def test_a_missing_image_is_reported_with_what_to_do(stack: Stack, served_run: ServedRun) -> None:
    image = stack.api("GET", "/work_pools/gpu")["base_job_template"]["job_configuration"]["image"]
    docker("tag", image, "mathquarry-test:aside")
    docker("rmi", image)
    try:
        run_id = stack.trigger("pipeline", {"run": {"recipe": "tiny", "seed": 9, "overrides": MINI}})
        message = stack.finished(run_id, "FAILED")["state"]["message"]
        page = stack.page(run_id, "failure")
        broken = next(child for child in stack.children(run_id).values() if child["state"]["type"] == "CRASHED")
    finally:
        docker("tag", "mathquarry-test:aside", image)
        docker("rmi", "mathquarry-test:aside")
    assert f"Image {image} is not on the host. Run `make images` there" in message
    assert f"({stack.url}/v2/runs/flow-run/{broken['id']})" in page
    assert "Traceback" not in stack.logs(run_id) + stack.logs(broken["id"])


def test_data_that_is_not_there_is_reported_before_a_container_starts(stack: Stack) -> None:
    source = 'problems.source={kind="files", train=["/data/problems/gsm8k-train.jsonl.gz"], test=["/data/problems/gsm8k-test.jsonl.gz"]}'
    run_id = stack.trigger("pipeline", {"run": {"recipe": "smollm", "overrides": [source]}})
    assert "/data/problems/gsm8k-train.jsonl.gz" in stack.finished(run_id, "FAILED")["state"]["message"]
    assert stack.children(run_id) == {}


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


def test_the_ui_shows_no_advertisement_and_tells_nobody(stack: Stack) -> None:
    settings = stack.api("GET", "/admin/settings")["server"]
    assert (settings["analytics_enabled"], settings["ui"]["show_promotional_content"]) == (False, False)


def test_the_pipeline_is_the_first_deployment_in_the_list(stack: Stack) -> None:
    listed = stack.api("POST", "/deployments/paginate", {"sort": "NAME_ASC", "limit": 10})["results"]
    pipelines = stack.deployment("pipeline")["flow_id"]
    assert listed[0]["flow_id"] == pipelines


def test_only_the_docker_worker_has_the_sockets_power(stack: Stack) -> None:
    for service in ("postgres", "server", "cpu-worker", "reports"):
        mounts = json.loads(docker("inspect", stack.container(service)))[0]["Mounts"]
        assert not any("docker.sock" in mount["Source"] for mount in mounts), service
