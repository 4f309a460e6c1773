"""Recipes: TOML files that override the configs' defaults, which are the paper's numbers."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

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

    Values may use `${VARIABLE}` and `${VARIABLE:-default}`. Raises `MathQuarryError` naming the recipe and every field that is wrong.
    """
    path = Path(name) if name.endswith(".toml") else Path(str(resources.files("flows").joinpath(f"recipes/{name}.toml")))
    if not path.is_file():
        raise MathQuarryError(f"there is no recipe {name}. Known recipes: {', '.join(recipe_names())}; or give the path of a .toml file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise MathQuarryError(f"{path} is not TOML: {error}.") from None
    values.setdefault("name", path.stem)
    for override in overrides or []:
        _apply(values, override)
    try:
        return Recipe.model_validate(_expand(values, path))
    except ValidationError as error:
        raise MathQuarryError(_explain(name, error)) from None


def override_recipe(values: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """A recipe as a run recorded it, with `section.field=value` overrides. Raises `MathQuarryError` naming every field that is wrong."""
    changed = json.loads(json.dumps(values))
    for override in overrides:
        _apply(changed, override)
    try:
        return Recipe.model_validate(changed)
    except ValidationError as error:
        raise MathQuarryError(_explain(str(changed.get("name")), error)) from None


def _apply(values: dict[str, Any], override: str) -> None:
    field, sign, text = override.partition("=")
    if not sign or not field:
        raise MathQuarryError(f"--set {override}: write it as section.field=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = field.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise MathQuarryError(f"--set {override}: {section} is a value, not a section.")
    values[last] = value


def _expand(value: Any, path: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _expand(entry, path) for key, entry in value.items()}
    if isinstance(value, list):
        return [_expand(entry, path) for entry in value]
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda match: _variable(match, path), value) if isinstance(value, str) else value


def _variable(match: re.Match[str], path: Path) -> str:
    value = os.environ.get(match[1], match[2])
    if value is None:
        raise MathQuarryError(f"{path} uses ${{{match[1]}}}, which is not set. Set the environment variable {match[1]}.")
    return value


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
