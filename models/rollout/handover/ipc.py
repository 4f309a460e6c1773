"""Handover by CUDA IPC: the engine, in its own process on the trainer's GPU, reads the trainer's memory. Data stay on the GPU."""

from __future__ import annotations

from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

from mathquarry.models.rollout.handover.transfer import SENDER, TransferHandover
from mathquarry.models.rollout.vllm import VLLMEngine


def ipc_handover(engine: VLLMEngine) -> TransferHandover:
    """Return a `Handover` to an engine that was started for `ipc`. It sends chunks, so only one chunk is in memory twice."""
    return TransferHandover(engine, IPCTrainerInitInfo(rank=SENDER, packed=True))
