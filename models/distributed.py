"""What one of several training processes (ranks) needs: its place among them, sharded weights, sums, and whole weights again.

Weights, gradients and optimizer state are sharded by FSDP2 (`torch.distributed.fsdp.fully_shard`). Losses here are *sums* divided by a
count taken over all ranks, so gradients are summed over ranks, never averaged. With one process nothing is sharded and every function
does what it says for one rank; `models.launch` starts several.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from models.config import Precision

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process among its peers: rank `rank` of `size`, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def current(cls) -> Ranks:
        """The process group's, or rank 0 of 1 where there is none."""
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if in_group() else torch.cuda.current_device())
        else:
            device = torch.device("cpu")
        return cls(dist.get_rank(), dist.get_world_size(), device) if in_group() else cls(0, 1, device)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes artifacts, metrics and progress."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The elementwise sum over all ranks, the same bits on each."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def maximum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The elementwise maximum over all ranks."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def from_first(self, value: Value) -> Value:
        """Rank 0's `value` on every rank; it must be picklable."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks in their order, on every rank; they must be picklable."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Return when every rank has come here."""
        if self.size > 1:
            dist.barrier()

    def _reduced(self, tensor: torch.Tensor, operation: Any) -> torch.Tensor:
        if self.size == 1:
            return tensor
        total = tensor.detach().clone().to(self.device)
        dist.all_reduce(total, operation)
        return total.to(tensor.device)


class Called(nn.Module):
    """A module whose forward pass is `function(model, ...)`.

    Sharded weights are gathered by hooks of the forward pass. A function that reaches into a model (its body, its head) instead of
    calling it must therefore run inside the forward pass of the module that was sharded: this one.
    """

    def __init__(self, model: PreTrainedModel, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with the model and the given arguments; returns what it returns."""
        return self._function(self.model, *args, **kwargs)


def in_group() -> bool:
    """Whether this process is one of a process group's ranks."""
    return dist.is_available() and dist.is_initialized()


def shard(module: Called, ranks: Ranks, precision: Precision = "float32") -> None:
    """Move `module.model` to this rank's device and shard its weights over all ranks in place: each block by itself, then the rest.

    All ranks must hold the same weights, or none (on the `meta` device; they are to be loaded then). Afterwards parameters are DTensors,
    and backward passes of `module` leave in them the gradient summed over ranks. With `bfloat16` the weights of blocks travel as
    bfloat16, as autocast would use them; sums stay float32.
    """
    model = module.model
    empty = any(parameter.is_meta for parameter in model.parameters())
    if not empty:
        model.to(ranks.device)  # type: ignore[arg-type]
    if ranks.size == 1:
        return
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    if precision == "bfloat16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            # gloo has no average, and a sum is what is wanted
            part.set_force_sum_reduction_for_comms(True)
    if empty:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model.to_empty(device=ranks.device)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The transformer blocks of a model, in order."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scale gradients so that their norm over all parameters and ranks is at most `largest`. Returns the norm before, finite or not."""
    norm = nn.utils.clip_grad_norm_(parameters, largest)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def whole_weights(model: PreTrainedModel, ranks: Ranks) -> dict[str, torch.Tensor]:
    """All weights of a sharded model on the CPU of rank 0, for saving or for an inference engine; empty on the others.

    Every rank must call it.
    """
    options = StateDictOptions(full_state_dict=ranks.size > 1, cpu_offload=True)
    return cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))
