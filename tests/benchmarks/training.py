"""The supervised loop beside transformers' plain Trainer: same model, documents, tokens and optimizer, on this CPU in float32.

    python -m tests.benchmarks.training [--steps 3] [--batch-tokens 2048] [--context-tokens 2048] [--repeats 3] [--sides ...]

The model has SmolLM2-135M's shape and random weights (speed and memory do not depend on them). The documents are token ids drawn from a
seed, with lengths as uneven as those of worked solutions and web pages. Each side runs alone in a process of its own, in alternating
order. Speed is documents' tokens a second over all steps but the first, on the clock and by the processor's time, which other work on the
machine disturbs less; peak memory is the process's, after the last step.
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

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Trainer, TrainingArguments

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.train.config import ScheduleConfig, TrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.packing import Epochs, pack
from tests.benchmarks.results import write_section

SIDES = {
    "mathquarry": "MathQuarry: packed rows, documents do not see each other",
    "trainer": "Trainer: a document a row, padded to the batch's longest",
    "trainer-packed": "Trainer: the same packed rows and position ids, documents do not see each other",
    "trainer-joined": "Trainer: the same packed rows, documents see each other",
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
    """Documents of about this many tokens in all; half are shorter than 180 tokens, the longest fill a row."""
    rng = np.random.default_rng(0)
    found: list[list[int]] = []
    while sum(map(len, found)) < tokens:
        length = int(np.clip(rng.lognormal(np.log(180), 0.7), 16, longest))
        found.append(rng.integers(0, VOCABULARY, size=length).tolist())
    return found


def run_side(side: str, steps: int, batch_tokens: int, context_tokens: int) -> dict[str, float]:
    """Times one side in this process."""
    texts = documents(steps * batch_tokens, context_tokens)
    ends: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.process_time())))
    with tempfile.TemporaryDirectory() as folder:
        if side == "mathquarry":
            tokens = _loop(texts, steps, batch_tokens, context_tokens, Path(folder))
        else:
            tokens = _trainer(texts, side, steps, batch_tokens, context_tokens, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, processor = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
    return {"tokens_per_second": sum(tokens[1:]) / seconds, "tokens_per_processor_second": sum(tokens[1:]) / processor, "peak_mib": peak}


def _loop(texts: list[list[int]], steps: int, batch_tokens: int, context: int, folder: Path) -> list[int]:
    rows = Epochs(pack([(ids, ids) for ids in texts], context, seed=0), seed=0)
    config = TrainConfig(
        learning_rate=1e-5,
        batch_tokens=batch_tokens,
        context_tokens=context,
        precision="float32",
        checkpoint_steps=10**9,
        schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    )
    fit(model(), rows, config, steps, Workspace.at(folder), "train", language_model_loss)
    size = batch_tokens // context
    return [sum(int((rows[place]["labels"] >= 0).sum()) for place in range(step * size, (step + 1) * size)) for step in range(steps)]


def _trainer(texts: list[list[int]], side: str, steps: int, batch_tokens: int, context: int, folder: str) -> list[int]:
    """transformers' Trainer as in its documentation, with the same optimizer."""
    examples: list[dict[str, list[int]]] = [{"input_ids": ids, "labels": ids} for ids in texts]
    size = max(1, round(batch_tokens / statistics.mean(map(len, texts))))
    packed = side != "trainer"
    if packed:
        rows = Epochs(pack([(ids, ids) for ids in texts], context, seed=0), seed=0)
        size = batch_tokens // context
        keys = ("input_ids", "labels", "position_ids") if side == "trainer-packed" else ("input_ids", "labels")
        examples = [{key: rows[i][key].tolist() for key in keys} for i in range(steps * size)]  # type: ignore[literal-required]

    def as_it_is(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in batch]) for key in batch[0]}

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
    trainer = Trainer(model(), arguments, train_dataset=examples, data_collator=as_it_is if packed else pad)  # type: ignore[arg-type]
    trainer.train()
    return [sum(label >= 0 for row in examples[step * size : (step + 1) * size] for label in row["labels"]) for step in range(steps)]


def main() -> None:
    """Run all sides and rewrite their section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--context-tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="measure these beside each other (default: all)")
    parser.add_argument("--side", choices=SIDES, help="time this side alone, in this process")
    chosen = parser.parse_args()
    if chosen.side:
        print(json.dumps(run_side(chosen.side, chosen.steps, chosen.batch_tokens, chosen.context_tokens)))
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in chosen.sides}
    options = ["--steps", str(chosen.steps), "--batch-tokens", str(chosen.batch_tokens), "--context-tokens", str(chosen.context_tokens)]
    for repeat in range(chosen.repeats):
        for side in chosen.sides[:: 1 if repeat % 2 == 0 else -1]:
            command = [sys.executable, "-m", "tests.benchmarks.training", "--side", side, *options]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[side].append(json.loads(output.splitlines()[-1]))
            print(side, found[side][-1], flush=True)
    write_section("training", report(found, options, chosen.repeats))


def report(found: dict[str, list[dict[str, float]]], options: list[str], repeats: int) -> list[str]:
    """The section's lines."""
    names = ("tokens_per_second", "tokens_per_processor_second", "peak_mib")
    speed, processor, peak = ({side: statistics.median(run[name] for run in runs) for side, runs in found.items()} for name in names)
    command = " ".join(["python -m tests.benchmarks.training", *options, "--repeats", str(repeats), "--sides", *found])
    lines = [
        f"`{command}`, {time.strftime('%d %B %Y')}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"median of {repeats} run(s), load {os.getloadavg()[0]:.1f} at the end.",
        "",
        "| | tokens a second | ours is faster by | tokens a processor second | ours is faster by | peak memory, MiB | our share |",
        "|---|" + "---:|" * 6,
    ]
    ours = next(iter(found))
    for side in found:
        ratios = ["" if side == ours else f"{medians[ours] / medians[side]:.2f}" for medians in (speed, processor, peak)]
        lines.append(
            f"| {SIDES[side]} | {speed[side]:.1f} | {ratios[0]} | {processor[side]:.1f} | {ratios[1]} | {peak[side]:,.0f} | {ratios[2]} |"
        )
    return lines


if __name__ == "__main__":
    main()
