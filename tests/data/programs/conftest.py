"""Sandboxes for tests, and functions that check from outside what their programs did."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mathquarry.data.programs.client import ServiceSandbox
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.container import image_name, start_container
from mathquarry.data.programs.local import start_local

CONFIG = ProgramsConfig(seconds=2.0, memory_mib=384, output_bytes=4096, sessions=16)
BACKENDS = [
    pytest.param("local", marks=pytest.mark.bubblewrap),
    pytest.param("container", marks=pytest.mark.docker),
]

SECRET_NAME, SECRET = "MATHQUARRY_TEST_SECRET", "the-secret-of-the-host-4711"
os.environ[SECRET_NAME] = SECRET  # before any service starts


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[ServiceSandbox]:
    """The service in each sandbox."""
    with start(request.param) as started:
        yield started


def start(backend: str, config: ProgramsConfig = CONFIG) -> ServiceSandbox:
    """Start the service in a sandbox; skips the test if the sandbox is unavailable."""
    if backend == "local":
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed")
        return start_local(config)
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("there is no Docker to talk to")
    if subprocess.run(["docker", "image", "inspect", image_name()], capture_output=True, check=False).returncode != 0:
        pytest.skip("the sandbox's image is not there; `make sandbox` builds it")
    return start_container(config)


def inside(sandbox: ServiceSandbox) -> set[int]:
    """Host ids of all processes in the sandbox, seen from outside."""
    folder = next(part for part in sandbox.address.parts if part.startswith("mathquarry-sandbox-"))
    found = subprocess.run(["docker", "top", folder, "-o", "pid"], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return {int(line) for line in found.stdout.split()[1:]}
    return descendants(os.getpid())


def descendants(ancestor: int) -> set[int]:
    """Ids of all living processes below `ancestor` that run the sandbox's service."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            if b"service" in (folder / "cmdline").read_bytes():
                parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    grown = {pid for pid, parent in parents.items() if parent == ancestor}
    while grown:
        found |= grown
        grown = {pid for pid, parent in parents.items() if parent in grown}
    return found
