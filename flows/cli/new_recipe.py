"""`mathquarry recipe new`: writes a commented recipe from a few answers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.flows.cli.written import inline
from mathquarry.flows.recipe import Recipe, load_recipe
from mathquarry.flows.recipe_files import apply_override, merged, recipe_names

WIDTH = 100
STAGES = ("pretrain", "sft", "grpo")

SMALL: dict[str, dict[str, Any]] = {
    "pretrain": {"learning_rate": 2e-5, "context_tokens": 1024, "batch_tokens": 65_536, "total_tokens": 6_553_600},
    "sft": {"learning_rate": 2e-5, "context_tokens": 1024, "batch_tokens": 16_384, "steps": 200},
    "grpo": {
        "supervision": "outcome",
        "steps": 100,
        "prompts_per_step": 8,
        "group_size": 8,
        "learning_rate": 1e-6,
        "rollout": {"max_tokens": 512},
    },
    "reward": {
        "supervision": "outcome",
        "questions": 1000,
        "group_size": 8,
        "context_tokens": 1024,
        "batch_tokens": 16_384,
        "rollout": {"max_tokens": 512},
    },
    "refresh": {"questions": 500},
    "evaluate": {"questions": 200, "k": 4, "rollout": {"max_tokens": 512}},
}
"""Starting values for a small model on one GPU (our choice). The defaults are the paper's, for 7B."""


@dataclass
class Answers:
    """A person's choices. `None` or empty means not chosen."""

    extends: str | None = None
    model: str | None = None
    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    warcs: list[str] = field(default_factory=list)
    stages: str | None = None
    reward: str | None = None
    engine: str | None = None
    overrides: list[str] = field(default_factory=list)


def ask(answers: Answers, read: Callable[[str], str] = input) -> None:
    """Ask for missing answers. An empty reply leaves an answer open."""

    def one(question: str, *allowed: str) -> str:
        choices = f" ({', '.join(allowed)})" if allowed else ""
        while (said := read(f"{question}{choices}: ").strip()) and allowed and said not in allowed:
            print(f"{said} is not one of these.")
        return said

    answers.extends = answers.extends or one("Recipe to start from, empty for none", *recipe_names()) or None
    answers.model = answers.model or one("Model to start from: folder or hub name, empty for the recipe's") or None
    answers.train = answers.train or one("File of training problems, empty for the recipe's").split()
    if answers.train and not answers.test:
        answers.test = one("File of held-out problems").split()
    if answers.extends is None or answers.model:
        answers.stages = answers.stages or one("Training stages (pretrain, sft, grpo), separated by commas") or None
    answers.reward = answers.reward or one("Reward function", "rule", "model") or None
    answers.engine = answers.engine or one("Engine that generates", "transformers", "vllm") or None


def write_recipe(path: Path, answers: Answers) -> Recipe:
    """Write the recipe, with each field's description as a comment. Returns the recipe as it was read back.

    Raises `MathQuarryError` if the file exists, or if the answers are not a valid recipe; then nothing is written.
    """
    if path.suffix != ".toml":
        raise MathQuarryError(f"{path}: the name of a recipe's file must end in .toml.")
    if path.exists():
        raise MathQuarryError(f"{path} exists already. Delete it first, or choose another name.")
    values = chosen_values(answers)
    text = "\n".join(commented_lines(values, answers.extends)) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    try:
        return load_recipe(str(path))
    except MathQuarryError:
        path.unlink()
        raise


def chosen_values(answers: Answers) -> dict[str, Any]:
    """Return the recipe's values: the choices and, if no other recipe is extended, starting values for sizes."""
    stages = [part.strip() for part in answers.stages.split(",") if part.strip()] if answers.stages else None
    if wrong := set(stages or ()) - set(STAGES):
        raise MathQuarryError(f"--stages has {', '.join(sorted(wrong))}; choose from {', '.join(STAGES)}, separated by commas.")
    if bool(answers.train) != bool(answers.test):
        raise MathQuarryError("--train and --test go together: give problems to train on, and others for evaluation.")
    if answers.extends is None and not (answers.model and answers.train):
        raise MathQuarryError("give --model, --train and --test, or --extends RECIPE.")
    values: dict[str, Any] = {}
    if answers.model:
        values["start"] = {"policy": answers.model, **({"stages": stages} if stages else {})}
    elif stages is not None:
        raise MathQuarryError("--stages needs --model: without a model, a recipe runs all its stages.")
    if answers.train:
        values["problems"] = {"source": {"kind": "files", "train": answers.train, "test": answers.test}}
    if answers.warcs:
        values["crawl"] = {"source": {"kind": "files", "warcs": answers.warcs}}
        values["mine"] = {"seed_pages": {"source": "crawl-formulas"}}
    if answers.extends is None:
        following = stages or (["pretrain", "grpo"] if answers.warcs else ["grpo"])
        values["start"]["stages"] = following
        answers.reward = answers.reward or "rule"
        for stage in (*following, *(("reward", "refresh") if answers.reward == "model" else ()), "evaluate"):
            values[stage] = merged(values.get(stage, {}), SMALL[stage])
    if answers.reward:
        values["grpo"] = merged(values.get("grpo", {}), {"paradigm": {"reward": answers.reward}})
    if answers.engine:
        for stage in ("grpo", "evaluate", *(("reward",) if answers.reward == "model" else ())):
            values[stage] = merged(values.get(stage, {}), {"rollout": {"engine": answers.engine}})
    for override in answers.overrides:
        apply_override(values, override)
    return values


def commented_lines(values: Mapping[str, Any], extends: str | None) -> Iterator[str]:
    """Yield the recipe as TOML, with the description of each field."""
    yield (
        "# All other settings are those of the extended recipe."
        if extends
        else ("# All other settings have their defaults, the paper's numbers: `mathquarry run THIS.toml --dry-run --all` prints them.")
    )
    if extends:
        yield f"extends = {inline(extends)}"
    yield from _commented(values, Recipe, "")


def _commented(values: Mapping[str, Any], model: type[BaseModel] | None, name: str) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if key in tables:
            continue
        description = model.model_fields[key].description if model and key in model.model_fields else None
        yield from _comment(description or "")
        yield f"{key} = {inline(value)}"
    for key, value in tables.items():
        below = _model_of(model, key, value)
        place = f"{name}.{key}".lstrip(".")
        yield ""
        yield from _comment((below.__doc__ or "").strip().split("\n\n")[0] if below else "")
        yield f"[{place}]"
        yield from _commented(value, below, place)


def _comment(text: str) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH))


def _model_of(model: type[BaseModel] | None, key: str, value: Mapping[str, Any]) -> type[BaseModel] | None:
    """Return the config class of a table; of several, the one of its `kind`."""
    field = model.model_fields.get(key) if model else None
    annotation = field.annotation if field else None
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            kind = one.model_fields.get("kind")
            if kind is None or kind.default == value.get("kind", kind.default):
                return one
    return None
