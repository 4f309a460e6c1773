"""Handover through a folder of safetensors: in shared memory if all ranks are on one machine, else on a shared file system.

The ranks take turns to write the next part of the weights, so they share the work and no rank holds more than one part. This works with
any engine that loads checkpoints.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rollout.engine import RolloutEngine
from mathquarry.models.rollout.weights import whole_tensors

MEMORY_FOLDER = Path("/dev/shm")
PART_BYTES = 2**29
"""Maximum bytes in a part, unless it is a single larger tensor."""
INDEX = "model.safetensors.index.json"

Part = dict[str, torch.Tensor]


class FolderHandover:
    """A `Handover` through `/dev/shm`, or through `scratch` if ranks are on several machines or shared memory is too small."""

    def __init__(self, engine: RolloutEngine, ranks: Ranks, scratch: Path) -> None:
        """`scratch` is a folder that all ranks can see."""
        self.engine, self.ranks, self.scratch = engine, ranks, scratch

    def hand_over(self, policy: PreTrainedModel, version: str) -> None:
        """See `Handover.hand_over`. Raises `MathQuarryError` if the folder cannot be written or does not hold these weights."""
        folder = self.ranks.from_first(self._new_folder(policy) if self.ranks.is_first else self.scratch)
        try:
            self._write(policy, version, folder)
            self.ranks.barrier()
            found = json.loads((folder / INDEX).read_text(encoding="utf-8"))["metadata"]["version"]
            if found != version:
                raise MathQuarryError(f"{folder} holds the weights of {found}, not of {version}. Stop other processes that write there.")
            self.engine.load(folder, version)
            self.ranks.barrier()
        finally:
            if self.ranks.is_first:
                shutil.rmtree(folder, ignore_errors=True)

    def _new_folder(self, policy: PreTrainedModel) -> Path:
        size = sum(tensor.numel() for tensor in policy.state_dict().values()) * self.engine.dtype.itemsize
        local = self.ranks.size == int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        # The name is the same in each attempt, so a run removes what an earlier, killed attempt left behind.
        name = f"mathquarry-weights-{blake2b(str(self.scratch.resolve()).encode(), digest_size=8).hexdigest()}"
        for place in (MEMORY_FOLDER, self.scratch):
            shutil.rmtree(place / name, ignore_errors=True)
        roomy = local and MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free > 2 * size
        folder = (MEMORY_FOLDER if roomy else self.scratch) / name
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise MathQuarryError(f"cannot make {folder}: {error.strerror}. Remove it if it is another user's, then run again.") from None
        return folder

    def _write(self, policy: PreTrainedModel, version: str, folder: Path) -> None:
        places: dict[str, str] = {}
        try:
            for number, part in enumerate(_parts(policy, self.engine.dtype, self.ranks)):
                name = f"model-{number:05d}.safetensors"
                places |= dict.fromkeys(part, name)
                if number % self.ranks.size == self.ranks.rank:
                    save_file(part, folder / name, {"format": "pt"})
            if self.ranks.is_first:
                policy.config.save_pretrained(folder)
                (folder / INDEX).write_text(json.dumps({"metadata": {"version": version}, "weight_map": places}), encoding="utf-8")
        except (OSError, SafetensorError) as error:
            raise MathQuarryError(
                f"cannot write the weights of {version} to {folder}: {error}. Free some space, then run again."
            ) from error


def _parts(policy: PreTrainedModel, dtype: torch.dtype, ranks: Ranks) -> Iterator[Part]:
    """Yield the tensors in parts, which are the same on all ranks. A part's tensors are kept by one rank; on the others they are empty."""
    number, size = 0, 0
    part: Part = {}
    for name, tensor in whole_tensors(policy, dtype):
        if part and size + tensor.nbytes > PART_BYTES:
            yield part
            number, size, part = number + 1, 0, {}
        # A safetensors file cannot hold one tensor under two names, such as those of a tied head.
        shared = any(tensor.data_ptr() == other.data_ptr() for other in part.values())
        own = number % ranks.size == ranks.rank
        part[name] = (tensor.clone() if shared else tensor.contiguous()) if own else tensor.new_empty(0)
        size += tensor.nbytes
    yield part
