"""Low-rank adapters (LoRA, arXiv 2106.09685), built with peft: a layer learns (alpha / rank) B A in addition to its frozen weight W.

Adapters are added to the model in place, so code that accesses parts of a model (its body, its blocks, its head) works unchanged. A reward
model's head is new and is trained in full. Frozen weights are kept in the precision of the passes, as in any model that is not trained.

Shape suffixes: none; B is (out_features, rank) and A (rank, in_features).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.config import Precision
from mathquarry.models.policy.config import LoRAConfig
from mathquarry.models.ranks.distributed import ShardedModel, blocks, narrow

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

ADAPTER = "default"
"""Peft's name of the adapter. A model has only one here."""
HEAD = "score"
"""The name of a reward model's head in token classifiers."""


def add_adapters(model: PreTrainedModel, config: LoRAConfig, seed: int, precision: Precision = "float32") -> PreTrainedModel:
    """Add adapters to `model`, in place, and freeze everything else except a reward model's head. With rank 0, change nothing.

    A is drawn from `seed` and B is 0, so the model's outputs do not change. For bfloat16 passes, the frozen weights become bfloat16.
    Raises `MathQuarryError` if no matrix of the blocks has one of the names in `config.target_modules`.
    """
    if not config.rank:
        return model
    # Importing peft takes seconds, and most runs do not need it.
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_modules(model, config),
        base_model_name_or_path="./base",
        task_type="TOKEN_CLS" if hasattr(model, HEAD) else "CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, model, ADAPTER)
    model.train(model.training)  # new layers start in training mode, whatever the model's mode
    if hasattr(model, HEAD):
        settings.modules_to_save = [HEAD]
        cast(nn.Module, model.score).requires_grad_(True)
    narrow(model, precision)
    return model


def target_modules(model: PreTrainedModel, config: LoRAConfig) -> list[str]:
    """Return the names of the layers that get adapters. Raises `MathQuarryError` if a configured name is not a matrix in the blocks."""
    found = {name.rpartition(".")[2] for block in blocks(model) for name, module in block.named_modules() if isinstance(module, nn.Linear)}
    if config.target_modules == "all-linear":
        return sorted(found)
    unknown = sorted(set(config.target_modules) - found)
    if unknown or not config.target_modules:
        raise MathQuarryError(
            f"lora.target_modules names {', '.join(unknown) or 'nothing'}, but the matrices of {type(model).__name__}'s blocks are "
            f"{', '.join(sorted(found))}. Choose from these, or use all-linear."
        )
    return sorted(set(config.target_modules))


def has_adapters(model: nn.Module) -> bool:
    """Whether `add_adapters` has put adapters into the model."""
    return hasattr(model, "peft_config")


def adapted_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """Return the layers with adapters, by the names that they have without adapters."""
    if not has_adapters(model):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Turn adapters off inside the block, so that the model computes what it did without them."""
    layers = list(adapted_layers(model).values())
    try:
        for layer in layers:
            layer.enable_adapters(False)
            # Peft freezes them too. FSDP uses what it sees in the first pass, and would never compute a gradient for the adapters.
            layer.lora_A.requires_grad_(True)
            layer.lora_B.requires_grad_(True)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


class Unadapted(ShardedModel):
    """A model with its adapters off: the model before training, without a second copy of its weights. It has no gradient."""

    def __init__(self, adapted: ShardedModel) -> None:
        super().__init__(adapted.model, adapted)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the adapted model without its adapters."""
        with torch.no_grad(), adapters_off(self.model):
            return self._function(*args, **kwargs)


class MergedWeights(Mapping[str, torch.Tensor]):
    """A model's weights, by the names that they have without adapters. Each one is merged with its adapter when it is read.

    Adapters that are off are not merged. Merged weights are float32. Those of a sharded model stay sharded, but merging gathers the small
    factor A: all ranks must read the same weights in the same order.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._plain = model.state_dict()
        self._layers = {f"{name}.weight": layer for name, layer in adapted_layers(model).items()}
        self._names = dict.fromkeys(name.replace(".base_layer.", ".") for name in self._plain if ".lora_" not in name)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._layers:
            return _merged(self._layers[name])
        if name in self._plain:
            return self._plain[name]
        return self._plain[name.rpartition(".")[0] + ".base_layer." + name.rpartition(".")[2]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def merged_weights(model: PreTrainedModel) -> Mapping[str, torch.Tensor]:
    """Return the weights that the model computes with: its own, or `MergedWeights` if it has adapters."""
    return MergedWeights(model) if has_adapters(model) else model.state_dict()


class AdapterParts(Mapping[str, torch.Tensor]):
    """The weights that an engine with adapters holds separately: `X.lora_A.weight`, `X.lora_B.weight` (multiplied by alpha / rank), and
    every frozen weight, `X.base_layer.weight`. Weights that are sharded stay sharded."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._factors = {f"{name}.lora_{kind}.weight": (kind, layer) for name, layer in adapted_layers(model).items() for kind in "AB"}
        plain = {name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items() if ".lora_" not in name}
        self._beside = {f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}": tensor for name, tensor in plain.items()}

    @torch.no_grad()
    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._beside:
            return self._beside[name]
        kind, layer = self._factors[name]
        weight = cast(nn.Linear, (layer.lora_A if kind == "A" else layer.lora_B)[ADAPTER]).weight
        return weight if kind == "A" else weight * layer.scaling[ADAPTER]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._beside, *self._factors])

    def __len__(self) -> int:
        return len(self._beside) + len(self._factors)

    @property
    def factors(self) -> list[str]:
        """Names of the adapters' weights."""
        return list(self._factors)


def product(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the change that an adapter makes to its layer's weight: scale B A."""
    return (b @ a) * scale


@torch.no_grad()
def _merged(layer: LoraLayer) -> torch.Tensor:
    """Return W + (alpha / rank) B A in float32, or only this shard's rows if W is sharded."""
    weight = cast(nn.Linear, layer.base_layer).weight
    if layer.disable_adapters:
        return weight
    a, b = (cast(nn.Linear, factors[ADAPTER]).weight for factors in (layer.lora_A, layer.lora_B))
    scale = layer.scaling[ADAPTER]
    if not isinstance(weight, DTensor):
        return weight.float() + product(a, b, scale)
    own = weight.to_local().float() + product(cast(DTensor, a).full_tensor(), cast(DTensor, b).to_local(), scale)
    return DTensor.from_local(own, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride())


@dataclass(frozen=True)
class Adapters:
    """Settings that an engine needs before it receives adapters."""

    rank: int
    layers: list[str]
    """Names of the layers with adapters: the part after the last dot."""


def adapters_of(model: PreTrainedModel) -> Adapters | None:
    """Return the settings of a model's adapters; `None` if it has none."""
    if not has_adapters(model):
        return None
    settings = cast(Any, model).peft_config[ADAPTER]
    return Adapters(settings.r, sorted(settings.target_modules))


def adapter_summary(model: PreTrainedModel) -> dict[str, int]:
    """Return the adapters' rank and the number of trained parameters, for an artifact's summary; empty without adapters."""
    adapters = adapters_of(model)
    if adapters is None:
        return {}
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"lora_rank": adapters.rank, "trained_parameters": trained}
