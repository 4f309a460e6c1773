"""Tools for one of several training processes (ranks): its rank, sharded weights, reductions, and gathering full weights.

Weights, gradients and optimizer state are sharded by FSDP2 (`torch.distributed.fsdp.fully_shard`). Losses are *sums* divided by a count
over all ranks, so gradients are summed over ranks, never averaged. With one process nothing is sharded, and every function works as for
one rank. `mathquarry.models.ranks.launch` starts several processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from mathquarry.models.config import Precision

Value = TypeVar("Value")

_meshes: WeakKeyDictionary[dist.ProcessGroup, DeviceMesh] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ranks:
    """This process in its group: rank `rank` of `size`, with its `device`."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def current(cls) -> Ranks:
        """Return the rank in the process group, or rank 0 of 1 if there is no group."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cuda" and in_group():
            # Without a group, do not query the current device: that would take GPU memory in a process that only starts others.
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        return cls(dist.get_rank(), dist.get_world_size(), device) if in_group() else cls(0, 1, device)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes artifacts, metrics and progress."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the elementwise sum over all ranks, bitwise equal on each."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def maximum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the elementwise maximum over all ranks."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def from_first(self, value: Value) -> Value:
        """Return rank 0's `value` on every rank. It must be picklable."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks in order, on every rank. They must be picklable."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.size > 1:
            dist.barrier()

    def _reduced(self, tensor: torch.Tensor, operation: Any) -> torch.Tensor:
        if self.size == 1:
            return tensor
        total = tensor.detach().clone().to(self.device)
        dist.all_reduce(total, operation)
        return total.to(tensor.device)


class ShardedModel(nn.Module):
    """A module whose forward pass is `function(model, ...)`.

    Sharded weights are gathered by hooks of the forward pass. A function that accesses parts of a model (its body, its head) without
    calling the model must therefore run inside the forward pass of the module that was sharded: this one.
    """

    def __init__(self, model: PreTrainedModel, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with the model and the given arguments, and return its result."""
        return self._function(self.model, *args, **kwargs)


def in_group() -> bool:
    """Whether this process is a rank of a process group."""
    return dist.is_available() and dist.is_initialized()


def shard(module: ShardedModel, ranks: Ranks, precision: Precision = "float32") -> None:
    """Move `module.model` to this rank's device and shard its weights over all ranks, in place: each block separately, then the rest.

    All ranks must hold the same weights, or none (on the `meta` device, to be loaded later). Afterwards parameters are DTensors, and
    backward passes of `module` leave gradients that are summed over ranks. With `bfloat16`, weights of blocks are gathered as bfloat16, as
    autocast would use them; sums stay float32.
    """
    model = module.model
    empty = any(parameter.is_meta for parameter in model.parameters())
    if not empty:
        model.to(ranks.device)  # type: ignore[arg-type]
    if ranks.size > 1:
        _shard_blocks(module, ranks, precision)
    if empty:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model.to_empty(device=ranks.device)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def mesh_of(ranks: Ranks) -> DeviceMesh:
    """Return a mesh of all ranks, one per process group, made at the first call: making it reads values, which fake tensors lack."""
    group = dist.distributed_c10d._get_default_group()
    if group not in _meshes:
        _meshes[group] = init_device_mesh(ranks.device.type, (ranks.size,))
    return _meshes[group]


def _shard_blocks(module: ShardedModel, ranks: Ranks, precision: Precision) -> None:
    mesh = mesh_of(ranks)
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    if precision == "bfloat16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks(module.model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # The root of a frozen model reshards embeddings and head after each pass. A trained model needs them again immediately.
    frozen = not any(parameter.requires_grad for parameter in module.parameters())
    fully_shard(module, mesh=mesh, reshard_after_forward=frozen)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            # gloo has no average, and a sum is needed here
            part.set_force_sum_reduction_for_comms(True)


def freeze(model: PreTrainedModel, precision: Precision) -> PreTrainedModel:
    """Prepare a model that is never trained, in place: no gradients, and weights in `precision` (see `narrow`)."""
    model.requires_grad_(False)
    narrow(model, precision)
    return model


def narrow(model: PreTrainedModel, precision: Precision) -> None:
    """For passes in bfloat16, convert frozen weights of matrix products to bfloat16, in place: autocast would do so in every pass.
    Embeddings, norms and the head of a reward model do not change, so all values are bitwise equal to those of the float32 model under
    autocast."""
    if precision == "float32":
        return
    kept = getattr(model, "score", None)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not kept and not module.weight.requires_grad:
            module.to(torch.bfloat16)


@contextmanager
def recomputed(model: PreTrainedModel, enabled: bool) -> Iterator[None]:
    """Inside the block, save only the blocks' inputs and recompute activations for the gradient. Results do not change (no dropout)."""
    if not enabled:
        yield
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    # Each block reads its own flag for recomputation. The flags of its submodules, which control dropout, stay off.
    for block in blocks(model):
        block.training = True
    try:
        yield
    finally:
        for block in blocks(model):
            block.training = False
        model.gradient_checkpointing_disable()


def reshard(module: nn.Module) -> None:
    """Free the full weights that a pass without a backward pass left gathered."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """Return the transformer blocks of a model, in order."""
    names = set(model._no_split_modules or ())
    # Sharding changes the class of a module to one that inherits from the block's.
    return [module for module in model.modules() if any(kind.__name__ in names for kind in type(module).__mro__)]


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scale gradients so that their norm over all parameters and ranks is at most `largest`. Returns the norm before scaling."""
    norm = nn.utils.clip_grad_norm_(parameters, largest)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def whole_weights(model: PreTrainedModel, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Gather all trained weights of a sharded model (with adapters, only those) on the CPU of rank 0, for saving; empty on other ranks.

    All ranks must call it.
    """
    options = StateDictOptions(full_state_dict=ranks.size > 1, cpu_offload=True, ignore_frozen_params=True)
    return cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))
