"""Time and memory of a weight transfer on two ranks: `python -m tests.benchmarks.handover [135m|7b]`.

The shape is SmolLM2-135M's with a float32 engine (as CPUs have), or DeepSeekMath 7B's with one of its 30 layers and a bfloat16 engine (as
GPUs have). Weights are random. `whole` is the first version's way, for comparison: the first rank gathers a float32 copy of all weights and
writes it to a folder, which every rank reads. Memory is the most that a rank held more than before, when its engine had a copy of the
weights already.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, shard, whole_weights
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.handover.choice import make_handover
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.weight_check import check_weights

ROUNDS = {"135m": 3, "7b": 1}
SHAPES = {
    "135m": LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=False,
    ),
    "7b": LlamaConfig(
        vocab_size=102_400,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=1,
        num_attention_heads=32,
        num_key_value_heads=32,
        tie_word_embeddings=False,
    ),
}
DTYPES = {"135m": torch.float32, "7b": torch.bfloat16}


def main() -> None:
    """Make the weights, start the ranks and print a line for each way."""
    parser = argparse.ArgumentParser(description="Time and memory of a weight transfer on two ranks.")
    parser.add_argument("shape", nargs="?", choices=list(SHAPES), default="135m")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = LlamaForCausalLM(SHAPES[options.shape])
        print(f"{model.num_parameters():,} weights")
        model.save_pretrained(folder / "model")
        del model
        arguments = (folder / "model", DTYPES[options.shape], ROUNDS[options.shape])
        found = launch(measure, arguments, RanksConfig(processes=2), Workspace.at(folder / "space"), "handover")
    for way, (seconds, gib) in found.items():
        print(f"{way}: {seconds:.2f} s, {gib:.2f} GiB")


class WholeHandover:
    """A float32 copy of all weights on the first rank, written to a folder that every rank reads."""

    def __init__(self, engine: TransformersEngine, ranks: Ranks, scratch: Path) -> None:
        self.engine, self.ranks, self.folder = engine, ranks, scratch / "whole"

    def hand_over(self, policy: PreTrainedModel, version: str) -> None:
        """Gather, write and load."""
        weights = whole_weights(policy, self.ranks)
        if self.ranks.is_first:
            policy.config.save_pretrained(self.folder)
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, self.folder / "model.safetensors", {"format": "pt"})
        del weights
        self.ranks.barrier()
        self.engine.load(self.folder, version)
        self.ranks.barrier()
        if self.ranks.is_first:
            shutil.rmtree(self.folder)


def measure(workspace: Workspace, folder: Path, dtype: torch.dtype, count: int) -> dict[str, tuple[float, float]]:
    """Fewest seconds of `count` transfers, and most GiB on any rank, of each way."""
    ranks = Ranks.current()
    policy = ShardedModel(load_policy(folder), completion_logprobs)
    shard(policy, ranks)
    found = {}
    for way in ("whole", "shared", "folder"):
        config = RolloutConfig(handover="folder" if way == "whole" else way)
        engine = TransformersEngine(config, load_policy(folder, dtype))
        chosen = make_handover(config, engine, ranks, workspace.scratch)
        handover = WholeHandover(engine, ranks, workspace.scratch) if way == "whole" else chosen
        for parameter in engine.model.parameters():
            parameter.data = parameter.data.clone()  # what was only mapped from a file would be counted when it is first written
        rounds = []
        for number in range(count):
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.add_(1e-6)
            ranks.barrier()
            with _grown() as grown:
                start = time.perf_counter()
                handover.hand_over(policy.model, f"{way} {number}")
                seconds = time.perf_counter() - start
            check_weights(engine, policy.model, ranks, f"{way} {number}")
            rounds.append((seconds, grown[0]))
        del engine, chosen, handover
        of_ranks = ranks.gather((min(seconds for seconds, _ in rounds), max(size for _, size in rounds)))
        found[way] = (max(seconds for seconds, _ in of_ranks), max(size for _, size in of_ranks))
        if ranks.is_first:
            print(way, found[way], flush=True)
    return found


@contextmanager
def _grown() -> Iterator[list[float]]:
    """Peak memory of this process in the block beyond its memory before the block, in GiB."""
    before, most = _resident(), [0.0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], (_resident() - before) / 2**30)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def _resident() -> int:
    """Bytes of this process in main memory."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


if __name__ == "__main__":
    # By its own name, since the ranks look it up.
    from tests.benchmarks.handover import main as run

    run()
