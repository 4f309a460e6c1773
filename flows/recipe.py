"""Recipes: TOML files that override the configs' defaults, which are the paper's numbers."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from data.config import Config, CrawlConfig, CurateConfig, MineConfig, Positive, ProblemsConfig, ProgramsConfig
from data.errors import MathQuarryError
from models.config import (
    CompareConfig,
    EvaluateConfig,
    GRPOConfig,
    HarnessConfig,
    PretrainConfig,
    PretrainedModel,
    RefreshConfig,
    RejectionConfig,
    RewardConfig,
    ScratchModel,
    SFTConfig,
)
from models.experiments import AblateConfig

PREFIX = "MATHQUARRY_"
DEPTH = 20
"""Sections and lists within each other, in a recipe."""
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
Place = tuple[str | int, ...]
"""Where a value is in a recipe: names of sections and fields, numbers of entries."""
SANDBOXES: tuple[Place, ...] = (("rejection", "tools", "programs"), ("evaluate", "tools", "programs"), ("harness", "programs"))
"""Sections that section `programs` is copied to."""


class Recipe(Config):
    """Every choice of a run, one section a stage."""

    name: str = Field(description="Name of the recipe.")
    description: str = Field("", description="What it is for, in a sentence.")
    seed: int = Field(0, description="Seed of every section that sets none of its own.")
    iterations: Positive = Field(
        2, description="Iterations of GRPO, each with a new reference and a refreshed reward model (paper reports 2)."
    )
    problems: ProblemsConfig = ProblemsConfig()
    crawl: CrawlConfig = CrawlConfig()
    mine: MineConfig = MineConfig()
    model: ScratchModel | PretrainedModel = Field(PretrainedModel(), discriminator="kind", description="What pretraining starts from.")
    pretrain: PretrainConfig = PretrainConfig()
    curate: CurateConfig = CurateConfig()
    sft: SFTConfig = SFTConfig()
    rejection: RejectionConfig = RejectionConfig()
    reward: RewardConfig = RewardConfig()
    grpo: GRPOConfig = GRPOConfig()
    refresh: RefreshConfig = RefreshConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    harness: HarnessConfig = HarnessConfig()
    compare: CompareConfig = CompareConfig()
    ablate: AblateConfig = AblateConfig()
    programs: ProgramsConfig = Field(ProgramsConfig(), description="The sandbox of every section that names none of its own.")

    _variables: dict[Place, str] = PrivateAttr(default_factory=dict)
    """Place of each value that an environment variable filled in -> how it was written."""

    def recorded(self) -> dict[str, Any]:
        """The recipe as a run records it: where a variable was filled in, its name stands, not its value."""
        values = self.model_dump(mode="json")
        sandbox = values["programs"]
        copies = [place for place in SANDBOXES if _at(values, place) == sandbox]
        written = dict(self._variables)
        for place, text in self._variables.items():
            if place[0] == "programs":
                written.update({(*copy, *place[1:]): text for copy in copies})
        for (*before, last), text in written.items():
            _at(values, tuple(before))[last] = text
        return values

    @model_validator(mode="before")
    @classmethod
    def _seed_every_section(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(values.get("seed"), int):
            return values
        seeded = dict(values)
        for name, field in cls.model_fields.items():
            section = field.annotation
            if isinstance(section, type) and issubclass(section, Config) and "seed" in section.model_fields:
                chosen = values.get(name, {})
                seeded[name] = {"seed": values["seed"], **chosen} if isinstance(chosen, Mapping) else chosen
        return seeded

    @model_validator(mode="before")
    @classmethod
    def _one_sandbox(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(values.get("programs"), Mapping):
            return values
        chosen = dict(values)
        for name in ("rejection", "evaluate"):
            section = values.get(name, {})
            if isinstance(section, Mapping) and isinstance(section.get("tools", {}), Mapping):
                chosen[name] = {**section, "tools": {"programs": values["programs"], **section.get("tools", {})}}
        harness = values.get("harness", {})
        if isinstance(harness, Mapping):
            chosen["harness"] = {"programs": values["programs"], **harness}
        return chosen


def recipe_names() -> list[str]:
    """Names of the recipes that come with MathQuarry."""
    return sorted(entry.name.removesuffix(".toml") for entry in resources.files("flows").joinpath("recipes").iterdir())


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path, apply `section.field=value` overrides, and check it.

    Values may use `${MATHQUARRY_NAME}` and `${MATHQUARRY_NAME:-default}`; variables with another prefix are refused, since secrets are
    among them. Raises `MathQuarryError` naming the recipe and every field that is wrong.
    """
    path = Path(name) if name.endswith(".toml") else Path(str(resources.files("flows").joinpath(f"recipes/{name}.toml")))
    if not path.is_file():
        raise MathQuarryError(f"there is no recipe {name}. Known recipes: {', '.join(recipe_names())}; or give the path of a .toml file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_values(values, name)
    except tomllib.TOMLDecodeError as error:
        raise MathQuarryError(f"{path} is not TOML: {error}.") from None
    except UnicodeDecodeError as error:
        raise MathQuarryError(f"{path} is not UTF-8 (byte {error.start}: {error.reason}). Save it as UTF-8.") from None
    except RecursionError:
        raise MathQuarryError(f"{path} is nested too deep: a recipe has sections and values, and few levels.") from None
    except ValueError as error:  # a whole number of more than 4,300 digits
        raise MathQuarryError(f"{path} has a value that cannot be read: {error}.") from None
    except OSError as error:
        raise MathQuarryError(f"{path} cannot be read: {error.strerror or error}.") from None
    values.setdefault("name", path.stem)
    for override in overrides or []:
        _apply(values, override)
    return _filled(values, name)


def override_recipe(values: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """A recipe as a run recorded it, with `section.field=value` overrides. Raises `MathQuarryError` naming every field that is wrong."""
    changed = json.loads(json.dumps(values))
    for override in overrides:
        _apply(changed, override)
    return _filled(changed, str(changed.get("name")))


def _filled(values: dict[str, Any], name: str) -> Recipe:
    """The recipe of these values, with variables filled in."""
    variables: dict[Place, str] = {}
    try:
        recipe = Recipe.model_validate(_expand(values, name, (), variables))
    except ValidationError as error:
        raise MathQuarryError(_explain(name, error)) from None
    recipe._variables = variables
    return recipe


def _apply(values: dict[str, Any], override: str) -> None:
    field, sign, text = override.partition("=")
    if not sign or not field:
        raise MathQuarryError(f"--set {override}: write it as section.field=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise MathQuarryError(f"--set {field}: the value cannot be read: {reason}.") from None
    _check_values(value, f"--set {field}")
    *sections, last = field.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise MathQuarryError(f"--set {override}: {section} is a value, not a section.")
    values[last] = value


def _check_values(value: Any, where: str, depth: int = 0) -> None:
    """Raises `MathQuarryError` for what TOML allows and a recorded config, which is JSON in a database, cannot hold."""
    if isinstance(value, (Mapping, list)):
        if depth == DEPTH:
            raise MathQuarryError(f"{where} is nested more than {DEPTH} deep.")
        for part in value.values() if isinstance(value, Mapping) else value:
            _check_values(part, where, depth + 1)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise MathQuarryError(f"{where} has a whole number of more than 64 bits. No setting is that large.")
    elif isinstance(value, (date, time)):
        raise MathQuarryError(f"{where} has a date or a time: {value}. Put it in quotes.")
    elif isinstance(value, str) and not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        raise MathQuarryError(f"{where} has bytes that are not UTF-8.")  # from the command line, where they come as surrogates


def _expand(value: Any, recipe: str, place: Place, variables: dict[Place, str]) -> Any:
    """The value with variables filled in; `variables` gets the places where there were some."""
    if isinstance(value, Mapping):
        return {key: _expand(entry, recipe, (*place, key), variables) for key, entry in value.items()}
    if isinstance(value, list):
        return [_expand(entry, recipe, (*place, index), variables) for index, entry in enumerate(value)]
    if not isinstance(value, str) or not (used := list(VARIABLE.finditer(value))):
        return value
    variables[place] = value
    for match in used:
        _check_variable(match, f"recipe {recipe}, {'.'.join(map(str, place))}")
    return VARIABLE.sub(lambda match: os.environ.get(match[1], match[2]), value)


def _check_variable(match: re.Match[str], where: str) -> None:
    if not match[1].startswith(PREFIX):
        raise MathQuarryError(
            f"{where}: ${{{match[1]}}} is not filled in, since its value would be recorded. "
            f"Only environment variables named {PREFIX}... are; set one of those to what a run may record."
        )
    if match[1] not in os.environ and match[2] is None:
        raise MathQuarryError(f"{where}: ${{{match[1]}}} is not set. Set the environment variable {match[1]}.")


def _at(values: Any, place: Place) -> Any:
    for part in place:
        values = values[part]
    return values


def _explain(name: str, error: ValidationError) -> str:
    lines = [f"recipe {name} does not fit:"]
    for problem in error.errors():
        # Union tags (`source.generated.pages`) are pydantic's, not the recipe's.
        place = [str(part) for part in problem["loc"]]
        field = ".".join(
            part for part in place if part not in ("generated", "files", "common-crawl", "common-crawl-records", "scratch", "pretrained")
        )
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(place[-1], _fields_beside(place), n=1)
            lines.append(f"  {field}: there is no such field" + (f"; did you mean {close[0]}?" if close else "."))
        else:
            lines.append(f"  {field}: {problem['msg']} (got {problem['input']!r})")
    return "\n".join(lines)


def _fields_beside(place: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in place[:-1]:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
