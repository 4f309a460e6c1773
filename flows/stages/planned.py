"""Estimates of what a recipe's stages should take, for `mathquarry plan` and for the record of a run."""

from __future__ import annotations

from mathquarry.flows.recipe import Recipe
from mathquarry.models.hardware import GPU, GPUS
from mathquarry.models.plan.plan import Estimate, estimate


def recipe_estimates(recipe: Recipe, gpu: GPU) -> list[Estimate]:
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
            gpu,
        )
    )


def planned_seconds(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Planned seconds of each stage, for each kind of GPU, so that a report can compare them with the actual times."""
    return {
        name: {row.stage: round(3600 * row.hours, 1) for row in recipe_estimates(recipe, gpu) if row.hours} for name, gpu in GPUS.items()
    }
