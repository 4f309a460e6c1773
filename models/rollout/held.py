"""The weights that a vLLM engine generates with, under the trainer's names. Runs in the process of vLLM's module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mathquarry.models.rollout.engine import HeldTensor
from mathquarry.models.rollout.weight_check import project, signs, weigh_rows


def held_tensors(model: torch.nn.Module, adapter_rank: int = 0) -> list[HeldTensor]:
    """Return projections of all weights of vLLM's module, and of its adapters of `adapter_rank` if it has any."""
    packs = getattr(model, "packed_modules_mapping", {})
    weights = [
        HeldTensor(_parts(f"{place}.{name}", packs), parameter.dtype, *_projection(module, parameter))
        for place, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    ]
    return weights + [one for place, module in model.named_modules() for one in _adapter_tensors(place, module, packs, adapter_rank)]


def _adapter_tensors(place: str, module: Any, packs: dict[str, list[str]], rank: int) -> Iterator[HeldTensor]:
    """Yield the adapters of a layer, from its only slot. Layers without adapters hold zeros; the trainer has no such names."""
    if not rank or not hasattr(module, "lora_a_stacked"):
        return
    for part, a, b in zip(_parts(f"{place}.", packs), module.lora_a_stacked, module.lora_b_stacked, strict=True):
        yield HeldTensor((f"{part}lora_A.weight",), a.dtype, project(a[0, 0, :rank]), True)
        yield HeldTensor((f"{part}lora_B.weight",), b.dtype, project(b[0, 0, :, :rank]), True)


def _parts(name: str, packs: dict[str, list[str]]) -> tuple[str, ...]:
    """Return the checkpoint's names of a vLLM weight. If a layer can have adapters, its own weights are those of its `base_layer`."""
    *outer, module, parameter = name.split(".")
    if module == "base_layer":
        *outer, module = outer
        parameter = f"base_layer.{parameter}"
    return tuple(".".join([*outer, part, parameter]) for part in packs.get(module, [module]))


def _projection(module: Any, parameter: torch.Tensor) -> tuple[float, bool]:
    """Return the projection of a layer's weight, and whether it is exact."""
    if parameter.numel():
        return project(parameter), True
    signs_1D = signs(module.input_size, parameter.device).to(parameter.dtype)[None]
    with torch.inference_mode():
        sums_N = module.quant_method.apply(module, signs_1D, None)[0]
    return weigh_rows(sums_N), False
