"""Ranks that fail, for tests. They load no models, so that they start fast."""

from __future__ import annotations

import os
import signal
import time

import torch.distributed as dist

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace


def fail(workspace: Workspace, how: str) -> None:
    """Rank 1 ends early, the other waits for it in a collective."""
    if dist.get_rank() == 1:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MathQuarryError("rank 1 does not like it") if how == "expected" else AttributeError("a bug")
    dist.barrier()


def wait_for_ever(workspace: Workspace) -> None:
    """Say that the rank has started, and wait."""
    (workspace.out / f"pid-{dist.get_rank()}").write_text(str(os.getpid()))
    time.sleep(600)
