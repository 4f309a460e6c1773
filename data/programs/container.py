"""The sandbox's service in its own container, without every right that Docker can remove.

It has no network of any kind, a read-only root, no capabilities, no new privileges, Docker's own seccomp profile (plus the stricter one
for programs), a user that owns nothing, no shared memory, and limits on memory, processes, open files, file size and logs for the whole
service. One folder is shared, for the socket; once the socket exists, nobody inside can change that folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.programs.client import ServiceSandbox, Started, limits
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.process import ServiceProcess
from mathquarry.data.programs.service.limits import SPARE

SERVICE = Path(__file__).with_name("service")
INSIDE = "/run/mathquarry"
"""The socket's folder in the container."""
USER = 65532
SPARE_MIB = 512
"""Memory for the service itself and for brief peaks of programs."""


@cache
def image_name() -> str:
    """The image that `make sandbox` builds; its tag is a digest of the service's code, so that client and service match."""
    digest = hashlib.sha256()
    for path in sorted(SERVICE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"mathquarry-sandbox:{digest.hexdigest()[:12]}"


def served_container(config: ProgramsConfig) -> ServiceSandbox | None:
    """The container that runs beside the stage containers (docker/compose.yaml), if `$MATHQUARRY_SANDBOX` names its socket.

    Raises `MathQuarryError` if the config's limits differ from the ones it was started with.
    """
    address = os.environ.get("MATHQUARRY_SANDBOX")
    if not address:
        return None
    if limits(config) != limits(ProgramsConfig()):
        raise MathQuarryError(
            "the sandbox of the services has the default limits (docker/compose.yaml). Leave the limits in section `programs` as they are."
        )
    return ServiceSandbox(Path(address), config)


def start_container(config: ProgramsConfig) -> ServiceSandbox:
    """Start the container and wait until the service is ready. It ends with the sandbox, or with this process.

    Raises `MathQuarryError` if Docker or the image is missing, or, with its output, if the container does not start.
    """
    image = config.image or image_name()
    start = partial(_start, config, image, _docker(image))
    address, end = start()
    return ServiceSandbox(address, config, start, end=end)


def _start(config: ProgramsConfig, image: str, docker: str) -> Started:
    folder = tempfile.TemporaryDirectory(prefix="mathquarry-sandbox-")  # only this user can enter it
    shared = Path(folder.name) / "run"
    shared.mkdir()
    shared.chmod(0o777)
    try:
        process = ServiceProcess(
            [
                *(docker, "run", "--rm", "--interactive", "--name", Path(folder.name).name, *options(config)),
                *("--mount", f"type=bind,src={shared},dst={INSIDE}", image),
                *(limits(config).to_json(), "--with-parent", "--socket", f"{INSIDE}/socket"),
            ],
            Path(folder.name) / "errors",
            remedy=f"Try `docker run --rm {image}` to see more, or set programs.sandbox to `local`.",
        )
    except MathQuarryError:
        folder.cleanup()
        raise
    shared.chmod(0o755)

    def end() -> None:
        process.end()
        folder.cleanup()

    return shared / "socket", end


def options(config: ProgramsConfig) -> list[str]:
    """Options of `docker run` that confine the container."""
    memory = f"{config.memory_mib * config.running + config.held_mib + SPARE_MIB}m"
    processes = config.sessions + config.running + SPARE
    taken = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={USER}:{USER}", "--ipc=none"]
    limited = [
        f"--memory={memory}",
        f"--memory-swap={memory}",
        f"--pids-limit={processes}",
        f"--cpus={min(config.running, os.cpu_count() or 1)}",
    ]
    limited += [f"--ulimit=nofile={limits(config).descriptors}", "--ulimit=core=0", "--ulimit=fsize=0", "--ulimit=memlock=0"]
    hidden = ["--tmpfs=/dev/pts:ro,size=4k"]  # just opening /dev/ptmx for reading allocates a terminal, and the machine has few
    return [*taken, *hidden, *limited, "--log-driver=none", "--hostname=sandbox"]


def _docker(image: str) -> str:
    """The command `docker`, if it works and has the image."""
    docker = shutil.which("docker")
    if docker is None:
        raise MathQuarryError(
            "programs.sandbox is `container`, but the command `docker` was not found. Install Docker, or set programs.sandbox to `local`."
        )
    asked = subprocess.run([docker, "image", "inspect", "--format", "{{.Id}}", image], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        if "no such image" in asked.stderr.lower():
            raise MathQuarryError(f"the sandbox's image {image} does not exist. Build it with `make sandbox`, or set programs.image.")
        raise MathQuarryError(f"Docker does not answer ({asked.stderr.strip()}). Start it, or set programs.sandbox to `local`.")
    return docker
