"""What a stage's container may get, by the settings of its own host, whatever the pool on the server says.

A pool is changed by whoever has the server's credential, and the worker that starts the containers holds Docker's socket. So image,
command, mounts, networks and rights must be those of the worker's own environment, and what a stage does not make it can only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from data.errors import MathQuarryError
from flows.deploy import DeploySettings, container_template
from flows.stages import STAGES

FIXED = ("image", "command", "volumes", "networks", "network_mode", "privileged", "container_create_kwargs", "image_pull_policy")
"""What the pool may not say otherwise than the worker's settings do. Labels, names and the limit of memory are its own affair."""
READ_ONLY = ("runs", "reviews")
"""Folders of a store that only pipelines and people write."""


def check_container(asked: Mapping[str, Any], settings: DeploySettings) -> None:
    """Raises `MathQuarryError` naming what a container was to get that `settings` do not give it."""
    given = container_template(settings)["job_configuration"]
    wrong = [name for name in FIXED if (asked.get(name) or None) != (given.get(name) or None)]
    if wrong:
        raise MathQuarryError(
            f"the work pool asks for another {', '.join(wrong)} than the settings of this host allow. `make up` writes the pool anew."
        )


def sealed(flow: str, parameters: Mapping[str, Any], store: str, present: Iterable[str]) -> list[str]:
    """Read-only mounts over the store's: other stages' artifacts, this stage's inputs, records of runs.

    `flow` is the stage's flow, `store` the host's folder of the store, `present` the paths inside it that exist (only they can be mounted).
    """
    own = next((stage for stage in STAGES if flow == stage or flow.startswith(f"{stage}-")), flow)
    inputs = {text for value in parameters.values() for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)}
    closed = []
    for path in present:
        parts = PurePosixPath(path).parts
        other = len(parts) == 2 and parts[0] == "artifacts" and parts[1] != own
        given = len(parts) == 3 and parts[:2] == ("artifacts", own) and f"{own}/{parts[2]}" in inputs
        if other or given or path in READ_ONLY:
            closed.append(f"{store}/{path}:/store/{path}:ro")
    return sorted(closed)
