"""What a person fills in to start a run from the Prefect UI. The server checks every field before anything starts."""

from __future__ import annotations

import json
import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from data.config import Config, Count
from flows.recipe import Recipe, load_recipe
from flows.stages import dependents
from models.config import Method
from models.experiments import Compared, Experiment

RecipeName = Literal["1b", "paper-7b", "smollm", "tiny"]
StageName = Literal[
    "problems", "crawl", "mine", "pretrain", "curate", "sft", "rejection", "reward", "grpo", "evaluate", "harness", "report"
]
OVERRIDE = r"^[a-z_]+(\.[a-z0-9_]+)* ?=.+$"
AS = "section.field=value, for example grpo.kl_coef=0.05"


def _override(text: str) -> str:
    if not re.search(OVERRIDE, text):
        raise ValueError(f"write it as {AS}")
    return text


# A pattern that does not fit is named by the server as it is; an `else` that nothing fits is named by what it asks for.
Override = Annotated[str, AfterValidator(_override), Field(json_schema_extra={"if": {"pattern": OVERRIDE}, "else": {"enum": [AS]}})]


class Form(Config):
    """Base of the forms: fields keep their order, which the server's database would lose."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _number_fields(schema))


def _number_fields(schema: dict[str, Any]) -> None:
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


class RunForm(Form):
    """A run of a recipe. A number of 0 and "as in the recipe" keep the recipe's value."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="What to run; `mathquarry run RECIPE --dry-run` prints all of one.")
    seed: Count = Field(0, title="Seed", description="Seed of every section that sets none of its own.")
    iterations: Count = Field(0, title="GRPO iterations", description="Each with a refreshed reward model. 0: as in the recipe.")
    supervision: Literal["as in the recipe", "outcome", "process"] = Field(
        "as in the recipe", title="Supervision", description="Rewards at the end of an answer (outcome) or at each step (process)."
    )
    grpo_steps: Count = Field(0, title="GRPO steps", description="Optimizer steps in an iteration. 0: as in the recipe.")
    questions: Count = Field(0, title="Evaluation questions", description="Held-out questions to score. 0: as in the recipe.")
    annotate: bool = Field(
        False,
        title="Annotate domains by hand",
        description="Wait between mining rounds until a person has judged the domain table. Off: the threshold decides.",
    )
    overrides: list[Override] = Field(
        [], title="Further overrides", description="`section.field=value`, for example `grpo.kl_coef=0.05`. Any field of the recipe."
    )
    begin_at: Literal[StageName, "the first stage"] = Field(
        "the first stage", title="Begin at", description="Everything before this stage must be in the store."
    )
    force: Literal[StageName, "nothing"] = Field(
        "nothing", title="Make again", description="This stage and what depends on it are made again, replacing what is in the store."
    )

    def resolve(self, review: str) -> Recipe:
        """The recipe with the overrides; `review` names a person's annotations. Raises `MathQuarryError` naming wrong fields."""
        supervision = None if self.supervision == "as in the recipe" else self.supervision
        chosen = {
            "seed": self.seed,
            "iterations": self.iterations,
            "grpo.supervision": supervision,
            "reward.supervision": supervision,
            "grpo.steps": self.grpo_steps,
            "evaluate.questions": self.questions,
            "mine.review": review if self.annotate else None,
        }
        fields = [f"{field}={value}" for field, value in chosen.items() if value]
        return load_recipe(self.recipe, [*fields, *self.overrides])

    @property
    def first_stage(self) -> StageName | None:
        """Stage to begin at; None for the first."""
        return None if self.begin_at == "the first stage" else self.begin_at

    @property
    def rebuilt(self) -> frozenset[str]:
        """Stages to make again."""
        return frozenset() if self.force == "nothing" else dependents(self.force)


class CompareForm(Form):
    """Reinforcement learning side by side, from a recipe's fine-tuned policy."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Everything up to SFT is as in its runs, and found where it was made.")
    compared: Compared = Field(
        "methods", title="What", description="Training methods; or GRPO with a refreshed and with a frozen reward model (rewards)."
    )
    methods: list[Method] = Field([], title="Methods", description="grpo+os and grpo+ps: outcome and process rewards. Empty: all.")
    seeds: list[Count] = Field([], title="Seeds", description="One run of each for each. Empty: as in the recipe.")
    steps: Count = Field(0, title="Steps", description="Optimizer steps of each method's run. 0: as in the recipe.")
    overrides: list[Override] = Field(
        [],
        title="Further overrides",
        description="`section.field=value`, for example `compare.evaluate_steps=20`. Any field of the recipe.",
    )

    def resolve(self) -> Recipe:
        """The recipe with the overrides. Raises `MathQuarryError` naming wrong fields."""
        chosen = {"methods": json.dumps(self.methods), "seeds": json.dumps(self.seeds), "steps": self.steps}
        fields = [f"compare.{field}={value}" for field, value in chosen.items() if getattr(self, field)]
        return load_recipe(self.recipe, [*fields, *self.overrides])


class AblateForm(Form):
    """Pretraining on different texts side by side."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Its section `ablate` has the arms.")
    experiment: Experiment = Field("corpora", title="Experiment", description="Corpora compared; code before mathematics; papers alone.")
    seeds: list[Count] = Field([], title="Seeds", description="One run of each arm for each. Empty: as in the recipe.")
    overrides: list[Override] = Field([], title="Further overrides", description="`section.field=value`. Any field of the recipe.")

    def resolve(self) -> Recipe:
        """The recipe with the overrides. Raises `MathQuarryError` naming wrong fields."""
        seeds = [f"ablate.seeds={json.dumps(self.seeds)}"] if self.seeds else []
        return load_recipe(self.recipe, [*seeds, *self.overrides])


class IterationForm(Form):
    """The next iteration of GRPO, after the newest finished run."""

    recipe: str | None = Field(
        None, title="Recipe", description="Go on from this recipe's newest finished run; empty: from the newest of any."
    )
    overrides: list[Override] = Field(
        [], title="Overrides", description="`section.field=value` of `reward`, `refresh`, `grpo` or `evaluate`; else as in that run."
    )


class SnapshotForm(Form):
    """Mine every crawl snapshot that was not mined yet."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Its `problems` and `mine` sections are used.")
    snapshots: str = Field(
        "/data/crawls", title="Folder of snapshots", description="Each folder inside it is a snapshot with *.warc.gz files."
    )
    overrides: list[Override] = Field([], title="Overrides", description="`section.field=value` of `problems`, `crawl` or `mine`.")


def served_store() -> str:
    """The store of served runs: `$MATHQUARRY_STORE`, which the images set."""
    return os.environ.get("MATHQUARRY_STORE", "/store")
