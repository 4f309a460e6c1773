"""Time and memory of a weight transfer for SmolLM2-135M's shape on two ranks: `python -m tests.benchmarks.handover`.

Weights are random and in float32, as the CPU's engines hold them. Memory is the most that a rank held more than before, when its engine
had a copy of the weights already.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.distributed import Ranks, ShardedModel, shard
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.handover.choice import make_handover
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.weight_check import check_weights

ROUNDS = 3


def main() -> None:
    """Make the weights, start the ranks and print a line for each way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = LlamaConfig(
            vocab_size=49_152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=False,
        )
        LlamaForCausalLM(config).save_pretrained(folder / "model")
        found = launch(measure, (folder / "model",), RanksConfig(processes=2), Workspace.at(folder / "space"), "handover")
    for way, (seconds, gib) in found.items():
        print(f"{way}: {seconds:.2f} s, {gib:.2f} GiB")


def measure(workspace: Workspace, folder: Path) -> dict[str, tuple[float, float]]:
    """Fewest seconds, and most GiB on any rank, of each way."""
    ranks = Ranks.current()
    policy = ShardedModel(load_policy(folder), completion_logprobs)
    shard(policy, ranks)
    found = {}
    for way in ("shared", "folder"):
        config = RolloutConfig(handover=way)
        engine = TransformersEngine(config, load_policy(folder))
        handover = make_handover(config, engine, ranks, workspace.scratch)
        for parameter in engine.model.parameters():
            parameter.data = parameter.data.clone()  # what was only mapped from a file would be counted when it is first written
        rounds = []
        for number in range(ROUNDS):
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
        of_ranks = ranks.gather((min(seconds for seconds, _ in rounds), max(size for _, size in rounds)))
        found[way] = (max(seconds for seconds, _ in of_ranks), max(size for _, size in of_ranks))
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
