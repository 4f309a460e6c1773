"""Estimates the cost of a recipe's stages, with the size of its start model."""

from __future__ import annotations

from mathquarry.data.store.store import Store
from mathquarry.flows.recipe import Recipe
from mathquarry.flows.stages.references import given_artifact
from mathquarry.models.policy.config import PretrainedModel
from mathquarry.models.policy.sizes import sized


def sized_recipe(recipe: Recipe, store: str = "") -> Recipe | None:
    """Return the recipe with the shape of its model, or of its start policy; `None` if the size is unknown."""
    start = recipe.start.policy
    if start is not None and (given := given_artifact(store, "policy", start)):
        start = str(Store(store).folder(*given.split("/")) / "model")
    model = sized(recipe.model, start)
    return None if model is None else recipe.model_copy(update={"model": model})


def unknown_size(recipe: Recipe) -> str:
    """Return the message for a model of unknown size."""
    path = recipe.model.path if isinstance(recipe.model, PretrainedModel) else ""
    name = recipe.start.policy or path
    same = "" if name == path else f'model.path = "{name}", and '
    return (
        f"recipe {recipe.name}: the size of {name} is unknown: it has no config.json that can be read here. Set {same}model.shape or "
        "model.parameters."
    )


def readable_bytes(size: float) -> str:
    """Format a size in the largest unit in which it is at least 1."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:,.1f} {unit}" if unit != "B" else f"{size:,.0f} B"
        size /= 1000
    return f"{size:,.1f} PB"
