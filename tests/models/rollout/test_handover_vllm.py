"""vLLM's own weight transfer, with a backend that is registered through its public factories and copies in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rollout.weight_check import check_weights

pytest.importorskip("vllm")

# Before anything else of vLLM's: the engine's module says how vLLM runs.
from mathquarry.models.rollout.vllm import VLLMEngine  # isort: skip
from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from mathquarry.models.rollout.handover.transfer import SENDER, TransferHandover
from tests.models.rollout.test_rollout_vllm import CONFIG, PROMPTS, agree, tiny_llama

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

BACKEND = "copy"


@dataclass
class CopyTrainerInit(TrainerInitInfo):
    backend: ClassVar[str] = BACKEND


@dataclass
class CopyInit(WeightTransferInitInfo):
    greeting: str


@dataclass
class CopyUpdate(WeightTransferUpdateInfo):
    name: str
    tensor: torch.Tensor


class CopyEngine(WeightTransferEngine[CopyInit, CopyUpdate]):
    """vLLM's side: as its IPC and NCCL engines treat received tensors."""

    init_info_cls = CopyInit
    update_info_cls = CopyUpdate

    def init_transfer_engine(self, init_info: CopyInit) -> None:
        assert init_info.greeting == "hello"

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: CopyUpdate) -> None:
        self.model.load_weights([(update_info.name, update_info.tensor)])

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None: ...


class CopyTrainer(TrainerWeightTransferEngine[CopyTrainerInit]):
    """The trainer's side."""

    init_info_cls = CopyTrainerInit
    lost: ClassVar[str] = ""
    """Name of a tensor that is lost in transfer."""

    @classmethod
    def trainer_init(cls, init_info: CopyTrainerInit, *, client: Any, source: Any = None) -> Self:
        assert init_info.is_sender
        client.init_weight_transfer_engine({"greeting": "hello"})
        return cls(client=client, source=source)

    def send_weights(self) -> None:
        assert self.source is not None
        self.client.start_weight_update()
        for expected, (name, tensor) in zip(self.source.metadata(), self.source, strict=True):
            assert (name, tensor.dtype, tuple(tensor.shape)) == (expected.name, expected.dtype, expected.shape)
            if name != self.lost:
                self.client.update_weights({"name": name, "tensor": tensor})
        self.client.finish_weight_update()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMEngine]:
    WeightTransferEngineFactory.register_engine(BACKEND, CopyEngine)
    WeightTransferTrainerFactory.register_engine(BACKEND, CopyTrainer)
    folder = tmp_path_factory.mktemp("start")
    tiny_llama(0).save_pretrained(folder)
    made = VLLMEngine(CONFIG, folder, transfer=BACKEND)
    yield made
    made.close()


@pytest.fixture
def handover(engine: VLLMEngine) -> TransferHandover:
    return TransferHandover(engine, CopyTrainerInit(rank=SENDER))


@pytest.mark.parametrize("tied", [False, True])
def test_each_version_arrives_whole_and_is_named(engine: VLLMEngine, handover: TransferHandover, tied: bool) -> None:
    for number in (1, 2):
        model = tiny_llama(number, tied=tied)
        handover.hand_over(model, f"step {number}")
        assert engine.llm.get_weight_version() == f"step {number}"
        check_weights(engine, model, Ranks.current(), f"step {number}")
        agree(engine, model)


def test_keys_and_values_of_the_weights_before_are_not_used(engine: VLLMEngine, handover: TransferHandover) -> None:
    old, new = tiny_llama(3), tiny_llama(4)
    for model in (old, new):
        handover.hand_over(model, "same name")
        engine.generate(PROMPTS, n=1, temperature=0.0, max_tokens=2, seeds=[0] * len(PROMPTS))
        agree(engine, model)


def test_a_tensor_that_got_lost_is_found_by_the_weight_check(
    engine: VLLMEngine, handover: TransferHandover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CopyTrainer, "lost", "model.layers.1.mlp.down_proj.weight")
    handover.hand_over(model := tiny_llama(5), "step 1")
    with pytest.raises(MathQuarryError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        check_weights(engine, model, Ranks.current(), "step 1")
