"""Tracks the memory of training code that runs with fake tensors: at its true size, with any number of ranks, on a small machine.

`fake_ranks` makes this process rank 0 of a group whose other ranks do not exist: collectives return at once. `fake_tensors` gives tensors
without data. `MemoryTracker` sees every operation and tracks the live storages. PyTorch's own `FSDPMemTracker` handles one sharded module
and one pass of it, but a GRPO step has three modules and many passes. Both report the same peaks (tests compare them).

Limits of fake tensors:
1. a value that the code reads (a loss, a norm) is always 1. Code whose shapes depend on values cannot run;
2. memory that CUDA libraries allocate for themselves, and fragmentation in the caching allocator, are not counted.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.distributed._tools.common_utils import get_untyped_storages
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.ranks.distributed import Ranks, in_group, mesh_of

PASSING = "activations"
"""Kind of everything without a name: tensors saved by forward passes, gathered weights, and temporary tensors of backward passes."""


@contextmanager
def fake_ranks(size: int) -> Iterator[None]:
    """Make this process the first of `size` ranks. Nothing is sent. Raises `MathQuarryError` if it is already a rank of a group."""
    if in_group():
        raise MathQuarryError("this process is already a rank of a group. Check a plan in a process of its own.")
    if size == 1:
        yield
        return
    dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
    try:
        mesh_of(Ranks.current())
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside the block, new tensors have shapes but no data."""
    with FakeTensorMode(allow_non_fake_inputs=True), _MadeUpValues():
        yield


class _MadeUpValues(TorchDispatchMode):
    """Returns 1 when code reads a value of a fake tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind is DTensor for kind in types):
            return NotImplemented
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            if func is not torch.ops.aten._local_scalar_dense.default:
                raise
            dtype = args[0].dtype
            return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1


class MemoryTracker(TorchDispatchMode):
    """Tracks the live storages while it is active. Enter it inside `fake_tensors`, or with real tensors on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.kinds: Counter[str] = Counter()
        """Bytes of each kind at the peak."""
        self._sizes: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._elsewhere: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._live: Counter[str] = Counter()
        self._total = 0
        self._outer: Any = None
        self._resize = torch.UntypedStorage.resize_

    def count(self, kind: str, tensors: Iterable[torch.Tensor], elsewhere: bool = False) -> None:
        """Count tensors that were made before, and set their storages' kind to `kind`, even if they are counted already. Storages that are
        `elsewhere`, in main memory, are no longer counted."""
        for tensor in tensors:
            for storage in get_untyped_storages(tensor):
                self._follow(storage, kind, rename=True)
                if elsewhere:
                    self._forget(self._sizes[storage])
                    self._elsewhere.add(storage)
        self._note()

    def __enter__(self) -> MemoryTracker:
        self._outer = active_fake_mode()
        tracker, resize = self, self._resize

        def resized(storage: torch.UntypedStorage, size: int) -> Any:
            result = resize(storage, size)
            if storage in tracker._sizes:
                tracker._follow(storage, PASSING)
                tracker._note()
            return result

        # FSDP frees and allocates gathered weights this way. It is not an operation, so the mode does not see it.
        torch.UntypedStorage.resize_ = resized  # type: ignore[method-assign,assignment]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind is DTensor for kind in types):
            return NotImplemented  # this is called again for its local tensors
        if func is torch.ops._c10d_functional.wait_tensor.default:
            return args[0]  # a fake tensor would be copied
        result = func(*args, **(kwargs or {}))
        if active_fake_mode() is self._outer:  # otherwise DTensor is computing shapes
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    for storage in get_untyped_storages(leaf):
                        self._follow(storage, PASSING)
            self._note()
        return result

    def _follow(self, storage: torch.UntypedStorage, kind: str, rename: bool = False) -> None:
        if storage in self._elsewhere:
            return
        size = storage.nbytes()
        known = self._sizes.get(storage)
        if known is None:
            entry: list[Any] = [0, kind]
            self._sizes[storage] = entry
            weakref.finalize(storage, self._forget, entry)
        else:
            entry = known
            if rename and entry[1] != kind:
                self._live[entry[1]] -= entry[0]
                self._live[kind] += entry[0]
                entry[1] = kind
        self._live[entry[1]] += size - entry[0]
        self._total += size - entry[0]
        entry[0] = size

    def _forget(self, entry: list[Any]) -> None:
        self._live[entry[1]] -= entry[0]
        self._total -= entry[0]
        entry[0] = 0

    def _note(self) -> None:
        if self._total > self.peak:
            self.peak = self._total
            self.kinds = Counter(self._live)
