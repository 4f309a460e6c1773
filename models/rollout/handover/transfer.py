"""Handover through vLLM's own weight transfer, to engines in their own processes. `ipc.py` and `nccl.py` choose the transport.

In vLLM one sender serves all engines. Here each rank has its own engine and sends to it, and all ranks iterate together, since they gather
shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, TrainerWeightTransferEngine, WeightSource

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.adapters import merged_weights
from mathquarry.models.rollout.vllm import VLLMEngine
from mathquarry.models.rollout.weights import whole_tensors

SENDER = 0
"""vLLM's number of the rank that sends."""


class TransferHandover:
    """A `Handover` through a backend of vLLM's weight transfer. The engine must have been started with the same backend."""

    def __init__(self, engine: VLLMEngine, init_info: TrainerInitInfo) -> None:
        """`init_info` has the backend and its address. It is first used when weights are sent."""
        self.engine, self._init_info = engine, init_info
        self._source = _PolicySource(engine.dtype)
        self._client = _Client(engine)
        self._trainer: TrainerWeightTransferEngine | None = None

    def hand_over(self, policy: PreTrainedModel, version: str) -> None:
        """See `Handover.hand_over`. vLLM takes all weights of a version, or keeps the version that it had."""
        self._source.policy, self._client.version = policy, version
        with self.engine.taking(version):
            if self._trainer is None:
                self._trainer = WeightTransferTrainerFactory.trainer_init(self._init_info, client=self._client, source=self._source)
            self._trainer.send_weights()
        found = self.engine.llm.get_weight_version()
        if found != version:
            raise MathQuarryError(
                f"the engine holds the weights of {found} after those of {version} were sent by `{self._init_info.backend}`. "
                "Set rollout.handover to `folder`, and report this with the version of vLLM."
            )


class _PolicySource(WeightSource):
    """The policy's weights in the interface of vLLM's trainer side. The policy can change between transfers."""

    policy: PreTrainedModel

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, self._dtype, tuple(tensor.shape)) for name, tensor in merged_weights(self.policy).items()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return whole_tensors(self.policy, self._dtype)


class _Client:
    """vLLM's `VLLMWeightSyncClient` for an engine that this process started."""

    def __init__(self, engine: VLLMEngine) -> None:
        self._llm, self.version = engine.llm, ""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self._llm.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self._llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._llm.finish_weight_update(weight_version or self.version)
