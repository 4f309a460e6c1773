"""Limits what a stage's container may get to the settings of its own host, whatever the pool on the server says.

Anyone with the server's credential can change a pool, and the worker that starts the containers holds Docker's socket. So image, command,
mounts, networks and rights must match the worker's own environment, and a stage can only read files that it does not make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.served.deploy import DeploySettings, container_template
from mathquarry.flows.stages.registry import stage_of

FIXED = ("image", "command", "volumes", "networks", "network_mode", "privileged", "container_create_kwargs", "image_pull_policy")
"""Options that the pool must set exactly as the worker's settings do. It may choose labels, names and the memory limit."""
READ_ONLY = ("runs", "reviews")
"""Folders of a store that only pipelines and people write."""


def check_container(asked: Mapping[str, Any], settings: DeploySettings) -> None:
    """Raises `MathQuarryError` naming the container options that `settings` do not allow."""
    given = container_template(settings)["job_configuration"]
    wrong = [name for name in FIXED if (asked.get(name) or None) != (given.get(name) or None)]
    if wrong:
        raise MathQuarryError(
            f"the work pool asks for another {', '.join(wrong)} than the settings of this host allow. Run `make up` to rewrite the pool."
        )


def sealed(flow: str, parameters: Mapping[str, Any], store: str, present: Iterable[str]) -> list[str]:
    """Read-only mounts over the store's: other stages' artifacts, this stage's inputs, records of runs.

    `flow` is the stage's flow, `store` the host's folder of the store, `present` the existing paths in it (only they can be mounted).
    """
    own = stage_of(flow)
    inputs = {text for value in parameters.values() for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)}
    closed = []
    for path in present:
        parts = PurePosixPath(path).parts
        other = len(parts) == 2 and parts[0] == "artifacts" and parts[1] != own
        given = len(parts) == 3 and parts[:2] == ("artifacts", own) and f"{own}/{parts[2]}" in inputs
        if other or given or path in READ_ONLY:
            closed.append(f"{store}/{path}:/store/{path}:ro")
    return sorted(closed)
