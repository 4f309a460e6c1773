"""The real services of docker/compose.yaml, and the operations that tests need on them."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).parents[2]

MINI = [
    "iterations=1",
    "problems.source.train=120",
    "problems.source.test=30",
    "crawl.source.pages=200",
    "crawl.source.domains=10",
    "crawl.source.warc_files=2",
    "crawl.source.near_duplicates=6",
    "crawl.source.url_duplicates=4",
    "crawl.source.contaminated=4",
    "mine.token_budgets=[20000]",
    "mine.seed_pages.positives=30",
    "mine.seed_pages.negatives=30",
    "mine.max_rounds=2",
    "mine.classifier.buckets=2000",
    "pretrain.total_tokens=16384",
    "pretrain.batch_tokens=4096",
    "pretrain.checkpoint_steps=2",
    "pretrain.schedule.warmup_steps=1",
    "sft.steps=4",
    "sft.batch_tokens=2048",
    "sft.checkpoint_steps=1",
    "sft.schedule.warmup_steps=1",
    "reward.questions=12",
    "reward.group_size=2",
    "reward.epochs=1",
    "reward.batch_tokens=2048",
    "reward.checkpoint_steps=2",
    "refresh.questions=8",
    "grpo.steps=2",
    "grpo.prompts_per_step=2",
    "grpo.group_size=4",
    "grpo.checkpoint_steps=1",
    "evaluate.questions=8",
    "evaluate.k=2",
]
"""The `tiny` recipe reduced to seconds a stage, with one iteration."""

WITH_A_MODEL = {"pretrain", "sft", "evaluate-base", "evaluate-sft", "reward-0", "grpo-1", "evaluate-rl-1"}
"""The stages of it that run in their own containers."""

BASES = {"BASE_IMAGE": "debian:bookworm-slim", "POSTGRES_IMAGE": "postgres:17-bookworm"}
"""The images that tests/serve/prepare starts from, by their tags: images without a registry have no digests."""

HEARTBEATS_SECONDS = 90
"""Three heartbeats: how long a run may be silent."""

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def docker(*arguments: str, status: int | None = 0) -> str:
    """The output of a docker command. Fails the test if it ends with another status."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert status is None or done.returncode == status, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """One set of services with its own names and ports."""

    folder: Path
    small_store: bool = True
    """The store is in memory and can fill up; it ends with the engine."""
    name: str = field(default_factory=lambda: f"mqtest-{secrets.token_hex(3)}")
    port: int = field(default_factory=free_port)
    reports_port: int = field(default_factory=free_port)
    auth: str = field(default_factory=lambda: f"mathquarry:{secrets.token_hex(12)}")
    password: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str) -> str:
        environment = {**os.environ, **BASES, "MATHQUARRY_ENV": str(self.folder / "env")}
        done = subprocess.run([REPOSITORY / "docker" / "up", *arguments], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        settings = {
            "PREFECT_AUTH": self.auth,
            "POSTGRES_PASSWORD": self.password,
            "MATHQUARRY_NAME": self.name,
            "MATHQUARRY_PORT": str(self.port),
            "MATHQUARRY_URL": self.url,
            "MATHQUARRY_REPORTS_PORT": str(self.reports_port),
            "MATHQUARRY_REPORTS_URL": f"http://127.0.0.1:{self.reports_port}",
            "MATHQUARRY_GPUS": "0",
            "MATHQUARRY_MEMORY": "3g",
            "MATHQUARRY_START_SECONDS": "120",
            # The services take part of the cores, and threads that wait for each other make little of the rest.
            "MATHQUARRY_THREADS": "1",
            "MATHQUARRY_COMPOSE": "tests/serve/small-store.yaml" if self.small_store else "",
        }
        (self.folder / "env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.compose()

    @classmethod
    def kept(cls, folder: Path) -> Stack:
        """The services that are up from an earlier session, or new ones, which stay up: for working on one test."""
        file = folder / "stack.json"
        if file.exists():
            return cls(folder, **json.loads(file.read_text()))
        folder.mkdir(parents=True, exist_ok=True)
        services = cls(folder)
        services.up()
        kept = {name: value for name, value in vars(services).items() if name != "folder"}
        file.write_text(json.dumps(kept))
        return services

    def down(self) -> None:
        for container in docker("ps", "--all", "--quiet", "--filter", f"network={self.name}-stages").split():
            docker("rm", "--force", container, status=None)
        self.compose("down", "--volumes", "--timeout", "2")

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", service).strip()

    def api(self, method: str, path: str, body: Any = None, *, status: int | None = None) -> Any:
        """Answer of the API as JSON. Repeated while the server is away."""
        deadline = time.monotonic() + 300
        while True:
            try:
                answer = httpx.request(method, f"{self.url}/api{path}", json=body, auth=httpx.BasicAuth(*self.auth.split(":")), timeout=30)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the server does not come back"
                time.sleep(1)
                continue
            if answer.status_code >= 500 and time.monotonic() < deadline:
                time.sleep(1)
                continue
            assert answer.status_code == status if status else answer.is_success, answer.text
            return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        return self.api("GET", f"/deployments/name/{name}/{name}")

    def trigger(self, name: str, parameters: dict[str, Any], **options: Any) -> str:
        """Start a run as the UI does; returns its id."""
        return self.api("POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", {"parameters": parameters, **options})["id"]

    def run(self, run_id: str) -> dict[str, Any]:
        return self.api("GET", f"/flow_runs/{run_id}")

    def children(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Child runs by name."""
        found = self.api("POST", "/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}, "limit": 200})
        return {run["name"]: run for run in found}

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 1800) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
            time.sleep(0.5)
        return value

    def finished(self, run_id: str, state: str | None = "COMPLETED") -> dict[str, Any]:
        """The run after its end, in `state` if one is given."""
        self.wait(lambda: self.run(run_id)["state"]["type"] in FINAL, f"the end of run {run_id}")
        run = self.run(run_id)
        assert state is None or run["state"]["type"] == state, json.dumps(run["state"]) + self.logs(run_id)
        return run

    def crashed(self, run_id: str) -> str:
        """Message of a run whose process was killed, after its worker has reported it.

        A worker reports the crash again some seconds after it was reported from inside, and that marks even a run that was retried before.
        """
        message = self.finished(run_id, "CRASHED")["state"]["message"]
        done = {"event": {"name": ["prefect.worker.executed-flow-run"]}, "related": {"id": [f"prefect.flow-run.{run_id}"]}}
        self.wait(lambda: self.api("POST", "/events/filter", {"filter": done})["total"], f"the worker's end of run {run_id}", 120)
        return str(message)

    def in_state(self, run_id: str, name: str, state: str) -> dict[str, Any]:
        """The child run called `name` when it is in `state`."""

        def there() -> dict[str, Any] | None:
            child = self.children(run_id).get(name)
            parent = self.run(run_id)
            assert parent["state"]["type"] not in FINAL, f"the run ended {parent['state']} before {name} was {state}"
            return child if child and child["state"]["name"] == state else None

        return self.wait(there, f"{name} {state}")

    def retry(self, run_id: str) -> None:
        """Send the request of the UI's Retry button."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        self.api("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def logs(self, run_id: str) -> str:
        query = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        return "\n".join(line["message"] for line in self.api("POST", "/logs/filter", query))

    def says(self, run_id: str, pattern: str) -> None:
        """Wait until a line of a run's log matches the pattern: the server gets log lines in batches, some seconds late."""
        self.wait(lambda: re.search(pattern, self.logs(run_id)), f"{pattern} in the log of run {run_id}", 60)

    def page(self, run_id: str, name: str) -> str:
        """Text of the artifact on a run's page whose key begins with `name`."""
        shown = self.api("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return next(artifact["data"] for artifact in shown if (artifact["key"] or "").startswith(f"{name}-"))

    def in_store(self, program: str) -> str:
        """Output of a Python program in a container with the store and the data folder, as root."""
        image = docker("inspect", "--format", "{{.Config.Image}}", self.container("cpu-worker"))
        mounts = ["--volume", f"{self.name}-store:/store", "--volume", f"{self.name}-data:/data"]
        return docker("run", "--rm", "--user", "root", "--entrypoint", "python", *mounts, image, "-c", program)

    def record(self, run_id: str) -> dict[str, Any]:
        """The store's record of a pipeline's run."""
        program = f"import glob; print(open(glob.glob('/store/runs/*-{run_id[-6:]}.json')[0]).read())"
        return json.loads(self.in_store(program))

    def keys(self, run_id: str) -> dict[str, str]:
        """Name of a stage in a pipeline's run -> key."""
        return {stage["name"]: stage["key"] for stage in self.record(run_id)["stages"]}

    def decisions(self, review: str) -> dict[str, Any]:
        """A person's decisions in a review: name of the round's file -> its content, in order."""
        program = f"""
import json, pathlib
files = sorted(pathlib.Path('/store/reviews/{review}').glob('*.json'))
print(json.dumps({{file.name: json.loads(file.read_text()) for file in files}}))
"""
        return json.loads(self.in_store(program))

    def verify(self) -> str:
        """`mathquarry ledger verify`: fails if an artifact is damaged."""
        return docker("exec", self.container("cpu-worker"), "mathquarry", "ledger", "verify")


KILL = """
import os, pathlib, signal
for entry in pathlib.Path('/proc').glob('[0-9]*'):
    try:
        if b'PREFECT__FLOW_RUN_ID={run_id}' in (entry / 'environ').read_bytes() and b'prefect.engine' in (entry / 'cmdline').read_bytes():
            os.kill(int(entry.name), signal.SIGKILL)
    except OSError:
        pass
"""


def kill_process(container: str, run_id: str) -> None:
    """kill -9 for the process of a run in a container, which may end with it."""
    docker("exec", container, "python", "-c", KILL.format(run_id=run_id), status=None)


def stage_container(run: dict[str, Any]) -> str:
    """Id of the container of a run in the `gpu` pool."""
    return re.split(r"[:/]", run["infrastructure_pid"])[-1]


def suspended(stack: Stack, pipeline: str) -> dict[str, Any] | None:
    """The `mine` of a pipeline that waits for a person."""
    body = {"flow_runs": {"tags": {"all_": [f"pipeline {pipeline}"]}, "state": {"name": {"any_": ["Suspended"]}}}}
    return next(iter(stack.api("POST", "/flow_runs/filter", body)), None)
