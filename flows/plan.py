"""`mathquarry plan`: what a recipe costs on given GPUs."""

from __future__ import annotations

from flows.recipe import Recipe
from models.hardware import BANDWIDTH_UTILISATION, GENERATE_UTILISATION, GPUS, TRAIN_UTILISATION, Cluster
from models.plan import MEMORY_SHARE, Estimate, estimate, shape_of

_HEAD = ("stage", "tokens", "FLOPs", "hours", "GPU-hours", "GiB a GPU", "disk", "checkpoints", "sent a GPU", "limit")


def recipe_estimates(recipe: Recipe, cluster: Cluster) -> list[Estimate]:
    """The estimates of a recipe's stages."""
    return list(
        estimate(
            recipe.problems.source,
            recipe.mine,
            recipe.model,
            recipe.pretrain,
            recipe.sft,
            recipe.rejection,
            recipe.reward,
            recipe.grpo,
            recipe.refresh,
            recipe.iterations,
            recipe.evaluate,
            cluster,
        )
    )


def plan_lines(recipe: Recipe, gpu: str, count: int) -> list[str]:
    """The plan as lines of text: a row a stage, their sum, what does not fit, and what was assumed."""
    cluster = Cluster(GPUS[gpu], count)
    shape = shape_of(recipe.model)
    rows = recipe_estimates(recipe, cluster)
    lines = [f"{recipe.name}: {shape.weights:,.0f} weights on {count} x {gpu}", _row(*_HEAD)]
    for row in rows:
        lines.append(
            _row(
                row.stage,
                f"{row.tokens:.3g}",
                f"{row.flops:.3g}",
                f"{row.hours:,.1f}",
                f"{row.hours * count:,.1f}",
                f"{row.memory / 2**30:,.1f}",
                readable_bytes(row.disk),
                readable_bytes(row.written),
                readable_bytes(row.network),
                row.limit,
            )
        )
    hours = sum(row.hours for row in rows)
    total = f"{sum(row.flops for row in rows):.3g}"
    lines.append(_row("all", "", total, f"{hours:,.1f}", f"{hours * count:,.1f}", "", *[""] * 4))
    room = cluster.gpu.memory * MEMORY_SHARE
    for row in rows:
        if row.memory > room:
            needs = f"{row.memory / 2**30:,.0f} GiB a GPU of the {room / 2**30:,.0f} that can be used"
            lines.append(f"{row.stage} does not fit: it needs {needs}. Take more GPUs, or smaller micro-batches.")
    if not shape.weights:
        lines.append("model.parameters is not set, so that every figure of a model is 0: set it to the number of weights.")
    lines.append(
        f"Assumed: {TRAIN_UTILISATION:.0%} of {cluster.gpu.flops / 1e12:,.0f} TFLOP/s in training, {GENERATE_UTILISATION:.0%} of it or "
        f"{BANDWIDTH_UTILISATION:.0%} of {cluster.gpu.bandwidth / 1e12:,.2f} TB/s in generation, {cluster.link / 1e9:,.0f} GB/s between "
        "GPUs. docs/planning.md has the formulas; mining is planned in docs/scaling-mining.md."
    )
    return lines


def readable_bytes(size: float) -> str:
    """In the largest unit that leaves a figure of at least 1."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:,.1f} {unit}" if unit != "B" else f"{size:,.0f} B"
        size /= 1000
    return f"{size:,.1f} PB"


def _row(stage: str, *cells: str) -> str:
    return f"{stage:<12}" + "".join(f"{cell:>13}" for cell in cells)
