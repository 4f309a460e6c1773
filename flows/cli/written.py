"""Writes a recipe as TOML: the settings that differ from the defaults, or all of them. Reading it back gives the same recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mathquarry.data.config import Config
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.flows.recipe import Recipe

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def recipe_lines(recipe: Recipe, everything: bool = False) -> list[str]:
    """Return lines of TOML: the fields that differ from the defaults, or all of them, with unset fields as comments."""
    values = _values(recipe, everything)
    for name, field in values.items():
        if not isinstance(field, dict) or everything:
            continue
        section: Any = getattr(recipe, name)
        # A section's seed and sandbox are those of the recipe, unless the section sets its own.
        if "seed" in type(section).model_fields:
            field.pop("seed", None)
            if section.seed != recipe.seed:
                field["seed"] = section.seed
        _drop_copies(field, section, recipe.programs)
    for name in type(recipe).model_fields:
        seed = getattr(getattr(recipe, name), "seed", recipe.seed)
        if name not in values and seed != recipe.seed:
            values[name] = {"seed": seed}
    return list(_table(values, ""))


def _drop_copies(field: dict[str, Any], section: Config, programs: ProgramsConfig) -> None:
    for holder, values in ((section, field), (getattr(section, "tools", None), field.get("tools"))):
        if holder is not None and isinstance(values, dict) and getattr(holder, "programs", None) == programs:
            values.pop("programs", None)
    if field.get("tools") == {}:
        field.pop("tools")


def _values(config: Config, everything: bool) -> dict[str, Any]:
    """Return fields that differ from the class's defaults, with sections as tables. A section is compared with its class's defaults."""
    found: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        required = field.is_required()
        if everything or required or name == "kind" or value != field.get_default(call_default_factory=True):
            found[name] = _written(value, everything)
    return found


def _written(value: Any, everything: bool) -> Any:
    if isinstance(value, Config):
        return _values(value, everything)
    if isinstance(value, (list, tuple)):
        return [_written(entry, everything) for entry in value]
    if isinstance(value, Mapping):
        return {key: _written(entry, everything) for key, entry in value.items()}
    return value


def _table(values: Mapping[str, Any], name: str) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    plain = {key: value for key, value in values.items() if key not in tables}
    if name and (plain or not tables):
        yield ""
        yield f"[{name}]"
    for key, value in plain.items():
        yield f"# {key} is not set" if value is None else f"{_key(key)} = {inline(value)}"
    for key, value in tables.items():
        yield from _table(value, f"{name}.{_key(key)}".lstrip("."))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else inline(name)


def inline(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {inline(entry)}" for key, entry in value.items() if entry is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, str):
        # JSON's escapes are valid in TOML, except that JSON does not escape DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)
