"""Time and memory to lay out a GRPO step of a 7B model on one of eight ranks, with its attention masks.

    python -m tests.benchmarks.layout [--before FOLDER]

128 completions of two questions, at most 16,384 tokens in a forward pass. `--before` also measures a checkout of the first version
(`git worktree add FOLDER fc018db`), which made all masks on the CPU before the first pass, as tokens x tokens.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

from mathquarry.models.logprobs.sequences import Arrangement, arrange

QUESTIONS, GROUP, PROMPT_TOKENS, COMPLETION_TOKENS = 2, 64, 150, (100, 900)
PASS_TOKENS, ROW_TOKENS = 16_384, 8192
"""Rows of families under a mask are at most twice the hidden size of 4096 long."""
CPU = torch.device("cpu")

Sequences = tuple[list[list[int]], list[list[int]]]


def make_sequences() -> Sequences:
    """Return prompts and completions with random tokens."""
    draw = random.Random(0)
    prompts = [[draw.randrange(100_000) for _ in range(PROMPT_TOKENS)] for _ in range(QUESTIONS)]
    completions = [[draw.randrange(100_000) for _ in range(draw.randint(*COMPLETION_TOKENS))] for _ in range(QUESTIONS * GROUP)]
    return [prompt for prompt in prompts for _ in range(GROUP)], completions


def measure(sequences: Sequences, arrangement: Arrangement) -> tuple[float, int]:
    """Return the seconds for all passes, and the most bytes of mask that are held at once."""
    start, most = time.perf_counter(), 0
    for batch in arrange(*sequences, arrangement, PASS_TOKENS, ROW_TOKENS, CPU):
        inputs = batch.model_inputs()
        if batch.spans is not None and arrangement == "spans":
            found = batch.spans.sequences(CPU)
            most = max(
                most, found.query_ends.nbytes + found.key_ends.nbytes + (0 if found.key_places_K is None else found.key_places_K.nbytes)
            )
        else:
            most = max(most, inputs["attention_mask"].nbytes)
    return time.perf_counter() - start, most


def measure_before(sequences: Sequences, folder: Path) -> tuple[float, int]:
    """Return the same for the first version."""
    sys.path.insert(0, str(folder))
    arrange_before = import_module("models.rl.sequences").arrange
    start = time.perf_counter()
    batches = arrange_before(*sequences, "shared", PASS_TOKENS, ROW_TOKENS, CPU)
    return time.perf_counter() - start, sum(batch.mask_BTT.nbytes for batch in batches)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description="Time and memory to lay out a GRPO step of a 7B model.")
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sequences = make_sequences()
    print(f"{sum(map(len, sequences[1])):,} completion tokens")
    rows = {name: measure(sequences, name) for name in ("spans", "shared")}
    if options.before:
        rows["before"] = measure_before(sequences, options.before.resolve())
    for name, (seconds, size) in rows.items():
        print(f"{name}: {seconds:.3f} s, {size / 2**20:.1f} MiB of masks or spans at once")


if __name__ == "__main__":
    main()
