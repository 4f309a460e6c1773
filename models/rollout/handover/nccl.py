"""Handover by NCCL: each rank sends to its engine on another GPU, over NVLink or the network."""

from __future__ import annotations

from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
from vllm.utils.network_utils import get_open_port

from mathquarry.models.rollout.handover.transfer import SENDER, TransferHandover
from mathquarry.models.rollout.vllm import VLLMEngine


def nccl_handover(engine: VLLMEngine) -> TransferHandover:
    """Return a `Handover` to an engine that was started for `nccl`. The rank and its engine form a group of two."""
    return TransferHandover(engine, NCCLTrainerInitInfo("127.0.0.1", get_open_port(), 2, rank=SENDER))
