"""The supervised loop beside transformers' plain Trainer: same model, documents, tokens and optimizer, on this machine's CPU in float32.

    python -m tests.benchmarks.training [--steps 6] [--batch-tokens 4096] [--context-tokens 512] [--repeats 2]

The model has SmolLM2-135M's shape and random weights (speed and memory do not depend on them). The documents are token ids drawn from a
seed, with lengths as uneven as those of worked solutions and web pages. Each side runs alone in a process of its own, in alternating
order. Speed is documents' tokens a second over all steps but the first; peak memory is the process's, after the last step.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from data.workspace import Workspace
from models.config import ScheduleConfig, TrainConfig
from models.packing import Epochs, pack
from models.train import fit, language_model_loss
from tests.benchmarks.results import write_section

SIDES = {
    "mathquarry": "MathQuarry: packed rows, documents do not see each other",
    "trainer": "Trainer: a document a row, padded to the batch's longest",
    "trainer-packed": "Trainer: the same packed rows, documents see each other",
}
VOCABULARY = 49_152


def model() -> PreTrainedModel:
    """SmolLM2-135M's shape."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
        )
    )


def documents(tokens: int, longest: int) -> list[list[int]]:
    """Documents of about so many tokens in all; half are shorter than 180 tokens, the longest fill a row."""
    rng = np.random.default_rng(0)
    found: list[list[int]] = []
    while sum(map(len, found)) < tokens:
        length = int(np.clip(rng.lognormal(np.log(180), 0.7), 16, longest))
        found.append(rng.integers(0, VOCABULARY, size=length).tolist())
    return found


def run_side(side: str, steps: int, batch_tokens: int, context_tokens: int) -> dict[str, float]:
    """Times a side in this process."""
    texts = documents(steps * batch_tokens, context_tokens)
    with tempfile.TemporaryDirectory() as folder:
        if side == "mathquarry":
            ends, tokens, peak = _loop(texts, steps, batch_tokens, context_tokens, Path(folder))
        else:
            ends, tokens, peak = _trainer(texts, side == "trainer-packed", steps, batch_tokens, context_tokens, folder)
    return {"tokens_per_second": sum(tokens[1:]) / (ends[-1] - ends[0]), "peak_mib": peak}


def _loop(texts: list[list[int]], steps: int, batch_tokens: int, context: int, folder: Path) -> tuple[list[float], list[int], float]:
    rows = Epochs(pack([(ids, ids) for ids in texts], context, seed=0), seed=0)
    config = TrainConfig(
        learning_rate=1e-5,
        batch_tokens=batch_tokens,
        context_tokens=context,
        precision="float32",
        checkpoint_steps=10**9,
        schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    )
    space = Workspace.at(folder)
    fit(model(), rows, config, steps, space, "train", language_model_loss)
    records = space.metrics.read()
    size = batch_tokens // context
    tokens = [sum(int((rows[place]["labels"] >= 0).sum()) for place in range(step * size, (step + 1) * size)) for step in range(steps)]
    return [record["time"] for record in records], tokens, records[-1]["values"]["peak_gib"] * 1024


def _trainer(
    texts: list[list[int]], packed: bool, steps: int, batch_tokens: int, context: int, folder: str
) -> tuple[list[float], list[int], float]:
    """transformers' Trainer as its documentation shows it, with the same optimizer."""
    examples: list[dict[str, list[int]]] = [{"input_ids": ids, "labels": ids} for ids in texts]
    size = max(1, round(batch_tokens / statistics.mean(map(len, texts))))
    if packed:
        rows = pack([(ids, ids) for ids in texts], context, seed=0)
        examples = [{"input_ids": rows[i]["input_ids"].tolist(), "labels": rows[i]["labels"].tolist()} for i in range(len(rows))]
        size = batch_tokens // context
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())

    def pad(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in batch)
        return {
            "input_ids": torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in batch]),
            "attention_mask": torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in batch]),
            "labels": torch.tensor([row["labels"] + [-100] * (longest - len(row["labels"])) for row in batch]),
        }

    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=size,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        weight_decay=0.1,
        train_sampling_strategy="sequential",
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model(), arguments, train_dataset=examples, data_collator=pad, callbacks=[Clock()])  # type: ignore[arg-type]
    trainer.train()
    tokens = [sum(label >= 0 for row in examples[step * size : (step + 1) * size] for label in row["labels"]) for step in range(len(ends))]
    return ends, tokens, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run all sides and rewrite their section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--context-tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="time this side alone, in this process")
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(run_side(chosen.side, chosen.steps, chosen.batch_tokens, chosen.context_tokens)))
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    options = ["--steps", str(chosen.steps), "--batch-tokens", str(chosen.batch_tokens), "--context-tokens", str(chosen.context_tokens)]
    for repeat in range(chosen.repeats):
        for side in list(SIDES)[:: 1 if repeat % 2 == 0 else -1]:
            command = [sys.executable, "-m", "tests.benchmarks.training", "--side", side, *options]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[side].append(json.loads(output.splitlines()[-1]))
            print(side, found[side][-1], flush=True)
    write_section("training", report(found, options, chosen.repeats))


def report(found: dict[str, list[dict[str, float]]], options: list[str], repeats: int) -> list[str]:
    """The section's lines."""
    speed = {side: statistics.median(run["tokens_per_second"] for run in runs) for side, runs in found.items()}
    peak = {side: statistics.median(run["peak_mib"] for run in runs) for side, runs in found.items()}
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = " The machine was busy." if load > cores + 1 else ""  # the threads that are measured are part of the load
    command = " ".join(["python -m tests.benchmarks.training", *options, "--repeats", str(repeats)])
    lines = [
        f"`{command}`, {time.strftime('%d %B %Y')}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}; median of "
        f"{repeats} run(s), load {load:.1f} at the end.{busy}",
        "",
        "| | tokens/s | first row is faster by | peak memory, MiB | first row's share |",
        "|---|---:|---:|---:|---:|",
    ]
    ours = "mathquarry"
    for side, title in SIDES.items():
        compared = ("", "") if side == ours else (f"{speed[ours] / speed[side]:.2f}", f"{peak[ours] / peak[side]:.2f}")
        lines.append(f"| {title} | {speed[side]:.1f} | {compared[0]} | {peak[side]:,.0f} | {compared[1]} |")
    return lines


if __name__ == "__main__":
    main()
