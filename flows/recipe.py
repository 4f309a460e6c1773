"""Recipes: TOML files that override the configs' defaults, which are the paper's numbers."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from mathquarry.data.config import HOW, Config, Positive
from mathquarry.data.crawl.config import CrawlConfig
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.problems.config import ProblemsConfig
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.flows.recipe_files import apply_override, read_recipe
from mathquarry.flows.renamed import RENAMED, REPLACED, renamed_value
from mathquarry.models.config import Tracker
from mathquarry.models.evaluate.config import EvaluateConfig, HarnessConfig, RejectionConfig
from mathquarry.models.experiments import AblateConfig, CompareConfig
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.reward.config import RefreshConfig, RewardConfig
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.train.config import PretrainConfig, SFTConfig

PREFIX = "MATHQUARRY_"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
Place = tuple[str | int, ...]
"""The location of a value in a recipe: names of sections and fields, indices of list entries."""
SAMPLERS = ("rejection", "grpo", "evaluate")
SANDBOXES: tuple[Place, ...] = (*((section, "tools", "programs") for section in SAMPLERS), ("harness", "programs"))
"""Sections to which section `programs` is copied."""


class StartConfig(Config):
    """Artifacts, models or texts to start from. A recipe with `policy` only runs the training stages that it has sections for."""

    policy: str | None = Field(
        None,
        description="Policy to start from: a Hugging Face folder, a `.gguf` file, a name on the hub (`owner/name`, or "
        "`owner/name@revision`), or an artifact of stage `pretrain`, `sft`, `grpo` or `import`: its key, or `stage/key`. The stages that "
        "make a base model (`crawl`, `mine`, `pretrain`) are then skipped, unless `stages` has `pretrain`.",
    )
    chat_template: Literal["own", "paper"] | None = Field(
        None,
        description="Prompt template of an external policy: its tokenizer's own, or the paper's (none: the tokenizer's, if it has one).",
    )
    corpus: str | None = Field(
        None,
        description="Corpus to pretrain on: an artifact of stage `mine`, or texts, in the forms of `pretrain.mix` (column `text`).",
    )
    crawl: str | None = Field(None, description="Crawl to mine: an artifact of stage `crawl`.")
    reward: str | None = Field(
        None,
        description="First reward model: an artifact of stage `reward`, or a Hugging Face folder or hub name of a token classifier with "
        "one label and the policy's tokenizer.",
    )
    stages: list[Literal["pretrain", "sft", "grpo"]] | None = Field(
        None,
        description="Training after `policy` (none: those of `pretrain`, `sft` and `grpo` that the recipe has a section for). Every policy "
        "is evaluated.",
    )

    @model_validator(mode="after")
    def _stages_follow_a_policy(self) -> StartConfig:
        if self.stages is not None and self.policy is None:
            raise ValueError("stages needs policy; `--until STAGE` ends a run early")
        return self

    def leaves_out(self, stage: Literal["pretrain", "sft", "grpo"]) -> bool:
        """Whether this training stage is skipped."""
        return self.policy is not None and stage not in (self.stages or [])


class Recipe(Config):
    """All settings of a run, one section per stage."""

    name: str = Field(description="Name of the recipe.")
    description: str = Field("", description="Purpose of the recipe, in one sentence.")
    seed: int = Field(0, description="Seed of every section that does not set its own.")
    trackers: list[Tracker] = Field(
        [], description="Experiment trackers of every section that names none of its own.", json_schema_extra=HOW
    )
    iterations: Positive = Field(
        2, description="Iterations of GRPO, each with a new reference and a refreshed reward model (paper reports 2)."
    )
    start: StartConfig = StartConfig()
    problems: ProblemsConfig = ProblemsConfig()
    crawl: CrawlConfig = CrawlConfig()
    mine: MineConfig = MineConfig()
    model: ScratchModel | PretrainedModel = Field(
        PretrainedModel(), discriminator="kind", description="Model that pretraining starts from."
    )
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
    programs: ProgramsConfig = Field(ProgramsConfig(), description="Sandbox of every section that does not set its own.")

    _variables: dict[Place, str] = PrivateAttr(default_factory=dict)
    """Location of each value that came from an environment variable -> the text in the recipe."""

    def recorded(self) -> dict[str, Any]:
        """Return the recipe as a run records it: with the names of environment variables instead of their values."""
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
    def _share_with_sections(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Seed and trackers of the recipe are those of every section that sets none of its own."""
        shared = {name: values[name] for name, kind in (("seed", int), ("trackers", list)) if isinstance(values.get(name), kind)}
        given = dict(values)
        for name, field in cls.model_fields.items():
            section, chosen = field.annotation, values.get(name, {})
            if isinstance(section, type) and issubclass(section, Config) and isinstance(chosen, Mapping):
                own = {key: value for key, value in shared.items() if key in section.model_fields}
                if own:
                    given[name] = {**own, **chosen}
        return given

    @model_validator(mode="before")
    @classmethod
    def _one_sandbox(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(values.get("programs"), Mapping):
            return values
        chosen = dict(values)
        for name in SAMPLERS:
            section = values.get(name, {})
            if isinstance(section, Mapping) and isinstance(section.get("tools", {}), Mapping):
                chosen[name] = {**section, "tools": {"programs": values["programs"], **section.get("tools", {})}}
        harness = values.get("harness", {})
        if isinstance(harness, Mapping):
            chosen["harness"] = {"programs": values["programs"], **harness}
        return chosen


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path, with the recipe it extends, apply `section.field=value` overrides, and validate it.

    Values can use `${MATHQUARRY_NAME}` and `${MATHQUARRY_NAME:-default}`. Variables with other prefixes are refused, since they can be
    secrets. Raises `MathQuarryError` with the recipe and every wrong field.
    """
    values = read_recipe(name)
    for override in overrides or []:
        apply_override(values, override)
    return _filled(values, name)


def override_recipe(values: Mapping[str, Any], overrides: list[str]) -> Recipe:
    """Load a recipe that a run recorded, with `section.field=value` overrides. Raises `MathQuarryError` with every wrong field."""
    changed = json.loads(json.dumps(values))
    for override in overrides:
        apply_override(changed, override)
    return _filled(changed, str(changed.get("name")))


def _filled(values: dict[str, Any], name: str) -> Recipe:
    """Return the recipe of these values, with environment variables filled in."""
    variables: dict[Place, str] = {}
    start = values.get("start")
    if isinstance(start, Mapping) and start.get("policy") and start.get("stages") is None:
        # Decided here, while it is known which sections were written in the file. A run records it.
        values = {**values, "start": {**start, "stages": [stage for stage in ("pretrain", "sft", "grpo") if stage in values]}}
    try:
        recipe = Recipe.model_validate(_expand(values, name, (), variables))
    except ValidationError as error:
        raise MathQuarryError(_explain(name, error)) from None
    recipe._variables = variables
    return recipe


def _expand(value: Any, recipe: str, place: Place, variables: dict[Place, str]) -> Any:
    """Return the value with environment variables filled in. Their locations are added to `variables`."""
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
            f"Only environment variables named {PREFIX}... are allowed. Use one of these for values that can be recorded."
        )
    if match[1] not in os.environ and match[2] is None:
        raise MathQuarryError(f"{where}: ${{{match[1]}}} is not set. Set the environment variable {match[1]}.")


def _at(values: Any, place: Place) -> Any:
    for part in place:
        values = values[part]
    return values


def _explain(name: str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        # Union tags (`source.generated.pages`) are pydantic's, not the recipe's.
        place = [str(part) for part in problem["loc"]]
        field = ".".join(
            part for part in place if part not in ("generated", "files", "common-crawl", "common-crawl-records", "scratch", "pretrained")
        )
        if problem["type"] == "extra_forbidden":
            beside = _fields_beside(place)
            new = RENAMED.get(place[-1])
            close = difflib.get_close_matches(place[-1], beside, n=1)
            advice = f"there is no such field; did you mean {close[0]}?" if close else "there is no such field."
            advice = f"this field was removed: {REPLACED[field]}" if field in REPLACED else advice
            lines.append(f"{field}: {f'renamed to {new}.' if new in beside else advice}")
        elif value := renamed_value(field, problem["input"]):
            lines.append(f"{field}: {problem['input']!r} was renamed to {value!r}.")
        else:
            # A validator's own sentence names the values that it speaks of; a whole section would hide it.
            own = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{field}: {own}" if own != problem["msg"] else f"{field}: {own} (got {problem['input']!r})")
    said = f"recipe {name} does not fit:"
    return f"{said} {lines[0]}" if len(lines) == 1 else "\n  ".join([said, *lines])


def _fields_beside(place: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in place[:-1]:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
