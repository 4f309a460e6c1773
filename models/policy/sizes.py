"""Reads the size of a model from its config.json, without loading it. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mathquarry.data.fetch.hub_names import model_config
from mathquarry.models.policy.config import ModelShape, PretrainedModel, ScratchModel


def stated_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape in a config.json; `None` if the usual fields are missing."""
    text = config.get("text_config", config)
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    if not isinstance(text, Mapping) or not all(_is_size(text.get(name)) for name in names):
        return None
    layers, hidden, heads, intermediate, vocabulary = (text[name] for name in names)
    optional = {"kv_heads": text.get("num_key_value_heads"), "head_size": text.get("head_dim")}
    given = {name: value for name, value in optional.items() if _is_size(value)}
    return ModelShape(layers=layers, hidden=hidden, heads=heads, intermediate=intermediate, vocabulary=vocabulary, **given)


def sized(model: ScratchModel | PretrainedModel, start: str | None = None) -> ScratchModel | PretrainedModel | None:
    """Return `model`, or the model at `start` (a folder or hub name), with its shape; `None` if its size is unknown.

    The size that `model` states is that of `start` only if its path is the same.
    """
    if start is not None and (isinstance(model, ScratchModel) or model.path != start):
        model = PretrainedModel(path=start)
    if isinstance(model, ScratchModel) or model.shape is not None or model.parameters is not None:
        return model
    config = model_config(model.path)
    shape = stated_shape(config) if config is not None else None
    return model.model_copy(update={"shape": shape}) if shape is not None else None


def longest_context(name: str) -> int | None:
    """Return a model's maximum number of positions, from its config.json; `None` if it is unknown."""
    config = model_config(name) or {}
    found = config.get("max_position_embeddings")
    return found if _is_size(found) else None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
