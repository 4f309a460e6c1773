"""Chooses the handover that the config names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.handover.adapter import AdapterHandover
from mathquarry.models.rollout.handover.folder import FolderHandover
from mathquarry.models.rollout.handover.shared import SharedHandover
from mathquarry.models.rollout.weights import Handover

if TYPE_CHECKING:
    from mathquarry.models.rollout.vllm import VLLMEngine


def make_handover(config: RolloutConfig, engine: RolloutEngine, ranks: Ranks, scratch: Path) -> Handover:
    """Return the handover named by `config.handover`. `scratch` is a folder that all ranks can see."""
    if config.handover == "folder":
        return FolderHandover(engine, ranks, scratch)
    # vLLM is optional, so modules that need it are only imported if they are used.
    if config.handover == "ipc":
        from mathquarry.models.rollout.handover.ipc import ipc_handover

        return ipc_handover(cast("VLLMEngine", engine))
    if config.handover == "nccl":
        from mathquarry.models.rollout.handover.nccl import nccl_handover

        return nccl_handover(cast("VLLMEngine", engine))
    if config.handover == "adapter":
        return AdapterHandover(cast("VLLMEngine", engine), ranks, scratch)
    return SharedHandover(engine, live=ranks.size == 1 and not config.ahead)
