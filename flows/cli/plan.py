"""`mathquarry plan`: prints what a recipe costs on given GPUs."""

from __future__ import annotations

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.preflight.costs import readable_bytes, sized_recipe, unknown_size
from mathquarry.flows.preflight.machine import main_memory
from mathquarry.flows.preflight.planned import PlannedRun
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.stages.planned import recipe_estimates
from mathquarry.models.hardware import GPU, GPUS, Cluster
from mathquarry.models.memory import Shape
from mathquarry.models.plan.plan import MEMORY_SHARE
from mathquarry.models.ranks.config import RanksConfig

CPU = "cpu"
_HEAD = ("stage", "GPUs", "tokens", "FLOPs", "hours", "GPU-hours", "GiB/GPU", "disk", "checkpoints", "sent/GPU", "limit")


def on_ranks(recipe: Recipe, count: int) -> Recipe:
    """Return the recipe with `count` processes on one machine in every stage that has ranks."""
    ranks = RanksConfig(processes=count)
    return recipe.model_copy(
        update={
            name: getattr(recipe, name).model_copy(update={"ranks": ranks})
            for name in ("pretrain", "sft", "rejection", "reward", "grpo", "evaluate")
        }
    )


def plan_lines(recipe: Recipe, gpu: str, store: str = "", run: PlannedRun | None = None) -> list[str]:
    """Return the plan as lines of text: a row per stage, their sum, stages that do not fit, and the assumptions.

    `run` limits the plan to its stages. `gpu` can be `cpu`: this machine, whose rates are measured. Raises `MathQuarryError` if the model's
    size is unknown.
    """
    whole = sized_recipe(recipe, store)
    if whole is None:
        raise MathQuarryError(unknown_size(recipe))
    recipe, shape = whole, Shape.planned(whole.model)
    card = _this_machine() if gpu == CPU else GPUS[gpu]
    rows = [row for row in recipe_estimates(recipe, card) if run is None or run.includes(row.stage)]
    lines = [f"{recipe.name}: {shape.weights:,.0f} weights on {gpu}", _row(*_HEAD)]
    for row in rows:
        lines.append(
            _row(
                row.stage,
                str(row.gpus or ""),
                f"{row.tokens:.3g}",
                f"{row.flops:.3g}",
                _hours(row.hours),
                _hours(row.hours * row.gpus),
                f"{row.memory / 2**30:,.1f}",
                readable_bytes(row.disk),
                readable_bytes(row.written),
                readable_bytes(row.network),
                row.limit,
            )
        )
    hours, together = sum(row.hours for row in rows), sum(row.hours * row.gpus for row in rows)
    total = f"{sum(row.flops for row in rows):.3g}"
    lines.append(_row("all", "", "", total, _hours(hours), _hours(together), "", *[""] * 4))
    for row in rows:
        room = card.shared_by(max(1, row.gpus)).memory * MEMORY_SHARE
        if row.memory > room:
            needs = f"{row.memory / 2**30:,.0f} GiB per {'process' if card.is_cpu else 'GPU'}, but only {room / 2**30:,.0f} can be used"
            lines.append(
                f"{row.stage} does not fit: it needs {needs}. Use {'GPUs' if card.is_cpu else 'more ranks'}, smaller micro-batches, "
                "gradient_checkpointing, optimizer.offload or a sleeping engine."
            )
    links = ", ".join(
        f"{Cluster(card, count).link / 1e9:,.0f} GB/s between {count} {'processes' if card.is_cpu else 'GPUs'}"
        for count in sorted({row.gpus for row in rows if row.gpus > 1})
    )
    flops = f"{card.flops / 1e12:,.{2 if card.is_cpu else 0}f} TFLOP/s{' (measured now)' if card.is_cpu else ''}"
    lines.append(
        f"Assumed: {card.train_share:.0%} of {flops} in training, {card.generate_share:.0%} of it or "
        f"{card.bandwidth_share:.0%} of {card.bandwidth / 1e12:,.2f} TB/s in generation{', ' + links if links else ''}. "
        "docs/planning.md has the formulas; mining is planned in docs/scaling-mining.md."
    )
    return lines


def _this_machine() -> GPU:
    from mathquarry.models.plan.cpu_rates import measured_cpu

    return measured_cpu(main_memory())


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.3f}"


def check_lines(recipe: Recipe, gpu: str, store: str = "") -> list[str]:
    """Return lines that compare the plan's memory with the real training code, run with fake tensors. Also shows the engine's memory on a
    GPU. `gpu` can be `cpu`.

    Raises `MathQuarryError` if the model's size is unknown.
    """
    from mathquarry.models.plan.check import check_recipe

    whole = sized_recipe(recipe, store)
    if whole is None:
        raise MathQuarryError(unknown_size(recipe))
    recipe = whole
    card = None if gpu == CPU else GPUS[gpu].memory
    lines = [_check_row("stage", "GPUs", "planned GiB", "run GiB", "error", "engine GiB", "cache tokens", "memory by kind")]
    for one in check_recipe(recipe.model, recipe.pretrain, recipe.sft, recipe.reward, recipe.grpo, card):
        kinds = ", ".join(f"{kind} {size / 2**30:.3g}" for kind, size in one.found.kinds.items() if size >= one.found.peak / 100)
        engine = f"{one.engine.share / 2**30:,.1f}" if one.engine else ""
        tokens = f"{one.engine.cache_tokens:,.0f}" if one.engine else ""
        planned, found = f"{one.planned / 2**30:,.2f}", f"{one.found.peak / 2**30:,.2f}"
        lines.append(_check_row(one.stage, str(one.gpus), planned, found, f"{one.error:+.1%}", engine, tokens, kinds))
        if card is not None and (needed := one.needed) > card * MEMORY_SHARE:
            lines.append(f"{one.stage} does not fit: {needed / 2**30:,.1f} of {card * MEMORY_SHARE / 2**30:,.1f} GiB.")
        if one.engine and one.engine.cache_tokens < one.longest:
            lines.append(
                f"{one.stage}: the engine's cache is too small for one sequence of {one.longest} tokens. Raise rollout.gpu_memory_share."
            )
    return lines


def _row(stage: str, *cells: str) -> str:
    return f"{stage:<12}" + "".join(f" {cell:>12}" for cell in cells)


def _check_row(stage: str, gpus: str, *cells: str) -> str:
    *metrics, kinds = cells
    return f"{stage:<10}{gpus:>5}" + "".join(f"{cell:>13}" for cell in metrics) + f"  {kinds}"
