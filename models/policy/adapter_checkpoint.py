"""Checkpoint folders with adapters, in peft's format. The folder `base` inside holds the checkpoint that they belong to.

`base` is an ordinary checkpoint folder, and may itself hold adapters: those of the stage before. Its files are hard links to the artifact
that they come from, if the file system supports them, so a chain of stages stores the first weights once. Loading merges adapters,
innermost first: every stage starts from plain weights.

A folder can come from anybody: only numbers and names are read, weights only from safetensors, and a weight that the model does not have
is an error.

Shape suffixes: none; B is (out_features, rank) and A (rank, in_features).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import write_json
from mathquarry.models.policy.adapters import ADAPTER, HEAD, product

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base"
PREFIX = "base_model.model."
"""Peft's prefix before the name of a weight in the model."""
UNKNOWN = (
    "use_dora",
    "use_rslora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "target_parameters",
)
"""Settings that change what an adapter computes. Only plain LoRA can be read here."""


def is_adapted(folder: Path) -> bool:
    """Whether a checkpoint folder holds adapters."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """Return the checkpoint that the adapters in a folder belong to. Raises `MathQuarryError` if it is missing. A link does not count,
    since it could point anywhere, or back."""
    base = folder / BASE
    if base.is_symlink() or not (base / "config.json").is_file():
        raise MathQuarryError(
            f"{folder} has adapters but not the checkpoint they belong to. Put that checkpoint into {base}, or merge them with peft first."
        )
    return base


def write_adapters(model: PreTrainedModel, weights: dict[str, torch.Tensor] | None, folder: Path, base: Path) -> None:
    """Write the trained weights of a model with adapters (its own, or `weights` if they are sharded), and link `base`.

    Raises `MathQuarryError` if the disk is full.
    """
    if weights is None:
        weights = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    settings = cast(Any, model).peft_config[ADAPTER].to_dict()
    # The order of a set differs between processes.
    listed = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
    stored = {PREFIX + name.replace(f".{ADAPTER}.", "."): tensor.contiguous().cpu() for name, tensor in weights.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(sorted(stored.items())), folder / WEIGHTS, {"format": "pt"})
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        if model.can_generate():
            cast(Any, model.generation_config).save_pretrained(folder)
        link_checkpoint(base, folder / BASE)
    except (OSError, SafetensorError) as error:
        raise MathQuarryError(f"cannot write the checkpoint {folder}: {error}. Free some space, then run again.") from error
    write_json(folder / CONFIG, {**listed, "inference_mode": True})


def link_checkpoint(source: Path, target: Path) -> None:
    """Make `target` a copy of the checkpoint `source`, with hard links if possible."""
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), place)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(file, place)


@torch.no_grad()
def merge_adapters(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add the adapters in a folder to the weights of `model`, in float32 and in place, and copy its reward head if it has one.

    Raises `MathQuarryError` if the folder holds anything but plain LoRA, or adapters of another model.
    """
    scale, weights = _scale(folder), _read(folder)
    for name in sorted(weights):
        place, _, kind = name.removeprefix(PREFIX).rpartition(".lora_")
        if kind == "A.weight":
            layer = _layer(model, place, folder)
            a, b = weights[name], weights.pop(name.removesuffix("A.weight") + "B.weight", None)
            if b is None or (b.ndim, a.ndim) != (2, 2) or (len(b), *a.shape[1:]) != tuple(layer.weight.shape) or b.shape[1] != len(a):
                raise MathQuarryError(f"{folder}: the adapter of {place} does not fit a matrix of {tuple(layer.weight.shape)}.")
            layer.weight += product(a.float(), b.float(), scale)
        elif kind == "B.weight":
            if name in weights:
                raise MathQuarryError(f"{folder}: the adapter of {place} has a B but no A.")
        else:
            _take(model, name.removeprefix(PREFIX), weights[name], folder)
    return model


def _scale(folder: Path) -> float:
    """Return alpha / rank of the adapters in a folder."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, rank, alpha = settings["peft_type"], settings["r"], settings["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MathQuarryError(f"{folder / CONFIG} cannot be read: {error}.") from None
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or not 0 < alpha < 1e9:
        raise MathQuarryError(f"{folder / CONFIG}: r is {rank!r} and lora_alpha {alpha!r}; they must be positive numbers.")
    if kind != "LORA" or (odd := [name for name in UNKNOWN if settings.get(name)]):
        what = kind if kind != "LORA" else f"LoRA with {', '.join(odd)}"
        raise MathQuarryError(f"{folder} holds {what}. Only plain LoRA can be read. Merge it with peft first.")
    return alpha / rank


def _read(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise MathQuarryError(f"cannot read the adapters {folder / WEIGHTS}: {error}.") from error


def _layer(model: PreTrainedModel, place: str, folder: Path) -> nn.Linear:
    try:
        layer = model.get_submodule(place)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear):
        raise MathQuarryError(f"{folder} has an adapter for {place}, but {type(model).__name__} has no such matrix. Use the right model.")
    return layer


def _take(model: PreTrainedModel, name: str, tensor: torch.Tensor, folder: Path) -> None:
    """Copy a reward head's weight or bias."""
    own = dict(model.named_parameters()).get(name) if name.partition(".")[0] == HEAD else None
    if own is None or own.shape != tensor.shape:
        raise MathQuarryError(f"{folder}: {name} of shape {tuple(tensor.shape)} does not fit {type(model).__name__}.")
    own.copy_(tensor)
