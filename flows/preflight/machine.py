"""Checks a run against this machine: libraries, reward functions, GPUs, memory, disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.store import Store
from mathquarry.flows.preflight.costs import readable_bytes, sized_recipe
from mathquarry.flows.preflight.planned import PlannedRun
from mathquarry.flows.stages.planned import recipe_estimates
from mathquarry.models.evaluate.config import EvaluateConfig, HarnessConfig, RejectionConfig
from mathquarry.models.hardware import GPUS
from mathquarry.models.memory import MOMENT_BYTES, WEIGHT_BYTES, Shape
from mathquarry.models.plan.plan import MEMORY_SHARE
from mathquarry.models.reward.config import RewardConfig
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.rewards.config import FunctionReward
from mathquarry.models.rl.rewards.function import function_source
from mathquarry.tasks.trackers import lacking, trackers_of

TRAINED = ("pretrain", "sft", "reward", "grpo")


def machine_faults(run: PlannedRun) -> Iterator[str]:
    """Yield a line for each resource that this machine lacks for a run."""
    yield from _lacking_libraries(run)
    recipe = sized_recipe(run.recipe, run.store)
    if recipe is None:
        return
    cards = gpu_memories()
    card = replace(GPUS["h100"], memory=min(cards) if cards else main_memory())
    rows = [row for row in recipe_estimates(recipe, card) if run.includes(row.stage)]
    if cards:
        for row in rows:
            if row.gpus > len(cards) and not _several_machines(run):
                yield f"{row.stage} needs {row.gpus} GPUs, but this machine has {len(cards)}. Lower its ranks.processes."
            elif row.memory > (room := card.memory * MEMORY_SHARE):
                yield (
                    f"{row.stage} needs {row.memory / 2**30:,.1f} GiB per GPU, but only {room / 2**30:,.1f} can be used here. Use smaller "
                    "micro-batches, gradient_checkpointing, optimizer.offload or more ranks."
                )
    else:
        trained = not run.stages.isdisjoint(TRAINED)
        # A lower bound: weights, and for training a gradient and two moments each. Activations are added to that.
        least = Shape.planned(recipe.model).weights * (2 * WEIGHT_BYTES + MOMENT_BYTES if trained else WEIGHT_BYTES)
        if least > card.memory:
            yield (
                f"the model needs more than {readable_bytes(least)} of memory, but this machine has {readable_bytes(card.memory)}. Use a "
                "smaller model, or a machine with GPUs."
            )
    needed, free = sum(row.disk for row in rows), free_disk(Store(run.store).root)
    if needed > free:
        sizes = f"the artifacts take about {readable_bytes(needed)}, but only {readable_bytes(free)} are free"
        yield f"{sizes}. Free some space, or choose another --store."


def _lacking_libraries(run: PlannedRun) -> Iterator[str]:
    without_trackers: dict[str, list[str]] = {}  # a recipe usually names a tracker once, for all its sections
    for name, arguments in run.calls.items():
        stage = run.produced[name].stage
        for config in arguments:
            sampling = isinstance(config, (GRPOConfig, RewardConfig, RejectionConfig, EvaluateConfig))
            if sampling and config.rollout.engine == "vllm" and util.find_spec("vllm") is None:
                yield f"{stage}.rollout.engine is vllm, which is not installed. Run `make vllm`, or set it to transformers."
            if isinstance(config, HarnessConfig) and config.tasks and util.find_spec("lm_eval") is None:
                yield "harness.tasks needs lm-evaluation-harness, which is not installed. Install the extra `lm-eval`."
            if isinstance(config, GRPOConfig):
                yield from _lacking_functions(config)
        for fault in lacking(trackers_of(arguments)):
            without_trackers.setdefault(fault, []).append(stage)
    for fault, stages in without_trackers.items():
        yield f"{', '.join(dict.fromkeys(stages))}: {fault}, or take it out."


def _lacking_functions(config: GRPOConfig) -> Iterator[str]:
    for reward in config.rewards:
        if isinstance(reward, FunctionReward):
            try:
                function_source(reward.function)
            except MathQuarryError as error:
                yield str(error)


def _several_machines(run: PlannedRun) -> bool:
    return any(getattr(run.recipe, stage).ranks.nodes > 1 for stage in TRAINED)


def gpu_memories() -> list[float]:
    """Return the memory in bytes of each GPU that NVIDIA's driver lists; empty without a driver."""
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return [float(line) * 2**20 for line in found.stdout.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def main_memory() -> float:
    """Return the size of main memory in bytes, or the limit of this process's control group."""
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemTotal:"):
            total = float(line.split()[1]) * 1024
            break
    else:
        return float("inf")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, float(Path(limit).read_text()))
        except (OSError, ValueError):  # missing, or "max"
            continue
    return total


def free_disk(folder: Path) -> float:
    """Return the free disk space in bytes for a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)
