"""Handover of adapters only: vLLM applies them to the weights that it started with.

It moves megabytes, and small changes are not lost to rounding, as they are when they are added to large weights in bfloat16.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json
from mathquarry.models.policy.adapter_checkpoint import CONFIG, PREFIX, WEIGHTS
from mathquarry.models.policy.adapters import AdapterParts, adapted_layers
from mathquarry.models.ranks.distributed import Ranks

if TYPE_CHECKING:
    from mathquarry.models.rollout.vllm import VLLMEngine


class AdapterHandover:
    """A `Handover` of adapters, through a folder in `scratch`. The engine must have started with the policy before it got adapters."""

    def __init__(self, engine: VLLMEngine, ranks: Ranks, scratch: Path) -> None:
        """`scratch` is a folder that all ranks can see."""
        self.engine, self.ranks, self.folder = engine, ranks, scratch / "adapter"

    def hand_over(self, policy: PreTrainedModel, version: str) -> None:
        """See `Handover.hand_over`. If the policy's adapters are off, the engine uses the weights that it started with."""
        layers = adapted_layers(policy).values()
        if all(layer.disable_adapters for layer in layers):
            self.engine.take_adapters(None, version)
            return
        try:
            factors = self._gathered(policy)
            if self.ranks.is_first:
                self._write(factors, {name.rpartition(".lora_")[0].rpartition(".")[2] for name in factors})
        except (OSError, SafetensorError) as error:
            raise MathQuarryError(
                f"cannot write the adapters of {version} to {self.folder}: {error}. Free some space, then run again."
            ) from error
        self.ranks.barrier()
        self.engine.take_adapters(self.folder, version)
        self.ranks.barrier()
        if self.ranks.is_first:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _gathered(self, policy: PreTrainedModel) -> dict[str, torch.Tensor]:
        """Gather every A and (alpha / rank) B in the engine's precision. All ranks must call it."""
        parts = AdapterParts(policy)
        rounded = {name: parts[name].detach().to(self.engine.dtype) for name in parts.factors}
        return {name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for name, tensor in rounded.items()}

    def _write(self, factors: dict[str, torch.Tensor], targets: set[str]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        save_file({PREFIX + name: tensor.contiguous().cpu() for name, tensor in factors.items()}, self.folder / WEIGHTS)
        rank = next(len(tensor) for name, tensor in factors.items() if ".lora_A." in name)
        settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(targets), "bias": "none"}
        write_json(self.folder / CONFIG, settings)
