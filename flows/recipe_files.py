"""Reads recipe files: built-in ones by name, others by path, with the recipes that they extend."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError

DEPTH = 20
"""Maximum nesting of sections and lists in a recipe, and maximum number of recipes that extend one another."""


def recipe_names() -> list[str]:
    """Names of the recipes that come with MathQuarry."""
    return sorted(entry.name.removesuffix(".toml") for entry in resources.files("mathquarry.flows").joinpath("recipes").iterdir())


def read_recipe(name: str) -> dict[str, Any]:
    """Return the values of a recipe, by its name or the path of a `.toml` file, merged over those of the recipe that it `extends`.

    `extends` is a name, or a path relative to the file that contains it. Tables are merged field by field; lists, and tables with another
    `kind`, are replaced. Name and description are not inherited. Raises `MathQuarryError` with the file that is wrong.
    """
    return _read(name, Path(), [])


def _read(name: str, folder: Path, above: list[Path]) -> dict[str, Any]:
    path = (
        folder / name if name.endswith(".toml") else Path(str(resources.files("mathquarry.flows").joinpath(f"recipes/{name}.toml")))
    ).resolve()
    if not path.is_file():
        said = f"{above[-1]} extends {name}: " if above else ""
        raise MathQuarryError(f"{said}there is no recipe {name}. Use one of {', '.join(recipe_names())}, or the path of a .toml file.")
    if path in above or len(above) == DEPTH:
        chain = " extends ".join(str(one) for one in [*above, path])
        raise MathQuarryError(f"{chain}: a recipe cannot extend itself, nor more than {DEPTH} others. Remove one `extends`.")
    values = _parse(path, name)
    values.setdefault("name", path.stem)
    if "extends" not in values:
        return values
    extended = values.pop("extends")
    if not isinstance(extended, str):
        raise MathQuarryError(f"{path}: extends is {extended!r}; it must be the name of a recipe, or the path of a .toml file.")
    below = _read(extended, path.parent, [*above, path])
    below.pop("description", None)
    return merged(below, values)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values `above` over those `below`, table by table. A table with another `kind` inherits no fields."""
    found = dict(below)
    for key, value in above.items():
        before = found.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and value.get("kind", before.get("kind")) == before.get("kind"):
            value = merged(before, value)
        found[key] = value
    return found


def _parse(path: Path, name: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        check_values(values, name)
    except tomllib.TOMLDecodeError as error:
        raise MathQuarryError(f"{path} is not TOML: {error}.") from None
    except UnicodeDecodeError as error:
        raise MathQuarryError(f"{path} is not UTF-8 (byte {error.start}: {error.reason}). Save it as UTF-8.") from None
    except RecursionError:
        raise MathQuarryError(f"{path} is nested too deeply.") from None
    except ValueError as error:  # a whole number of more than 4,300 digits
        raise MathQuarryError(f"{path} has a value that cannot be read: {error}.") from None
    except OSError as error:
        raise MathQuarryError(f"{path} cannot be read: {error.strerror or error}.") from None
    return values


def check_values(value: Any, where: str, depth: int = 0) -> None:
    """Raise `MathQuarryError` for values that TOML allows but a recorded config cannot hold: it is JSON in a database."""
    if isinstance(value, (Mapping, list)):
        if depth == DEPTH:
            raise MathQuarryError(f"{where} is nested more than {DEPTH} levels deep.")
        for part in value.values() if isinstance(value, Mapping) else value:
            check_values(part, where, depth + 1)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise MathQuarryError(f"{where} has a whole number of more than 64 bits. No setting is that large.")
    elif isinstance(value, (date, time)):
        raise MathQuarryError(f"{where} has a date or a time: {value}. Put it in quotes.")
    elif isinstance(value, str) and not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        raise MathQuarryError(f"{where} has bytes that are not UTF-8.")  # from the command line, as surrogates


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set a field in a recipe's values, from `section.field=value`. Raises `MathQuarryError` if it cannot be parsed or set."""
    field, sign, text = override.partition("=")
    if not sign or not field:
        raise MathQuarryError(f"--set {override}: write it as section.field=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MathQuarryError(f"--set {field}: the value cannot be read: {reason}.") from None
    check_values(value, f"--set {field}")
    *sections, last = field.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise MathQuarryError(f"--set {override}: {section} is a value, not a section.")
    values[last] = value
