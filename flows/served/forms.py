"""Forms for starting a run from the Prefect UI. The server checks every field before anything starts."""

from __future__ import annotations

import json
import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from mathquarry.data.config import Config, Count
from mathquarry.flows.recipe import Recipe, load_recipe
from mathquarry.flows.stages.registry import dependents
from mathquarry.models.experiments import Compared, Experiment, Method

RecipeName = Literal["1b", "gsm8k-1gpu", "math-1gpu", "math-8gpu", "paper-7b", "smollm", "tiny", "words"]
StageName = Literal[
    "import", "problems", "crawl", "mine", "pretrain", "curate", "sft", "rejection", "reward", "grpo", "evaluate", "harness", "report"
]
OVERRIDE = r"^[a-z_]+(\.[a-z0-9_]+)* ?=.+$"
AS = "section.field=value, for example grpo.kl_coef=0.05"


def _override(text: str) -> str:
    if not re.search(OVERRIDE, text):
        raise ValueError(f"write it as {AS}")
    return text


# For a mismatched pattern, the server shows the raw pattern. For an `else` that nothing matches, it shows the expected form.
Override = Annotated[str, AfterValidator(_override), Field(json_schema_extra={"if": {"pattern": OVERRIDE}, "else": {"enum": [AS]}})]


class Form(Config):
    """Base of the forms: fields keep their order, which the server's database would lose."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _number_fields(schema))


def _number_fields(schema: dict[str, Any]) -> None:
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


class RunForm(Form):
    """A run of a recipe. A number of 0 and "as in the recipe" keep the recipe's value."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Recipe to run; `mathquarry run RECIPE --dry-run` prints it in full.")
    seed: Count = Field(0, title="Seed", description="Seed of every section that does not set its own.")
    iterations: Count = Field(0, title="GRPO iterations", description="Each with a refreshed reward model. 0: as in the recipe.")
    supervision: Literal["as in the recipe", "outcome", "process"] = Field(
        "as in the recipe", title="Supervision", description="Rewards at the end of an answer (outcome) or at each step (process)."
    )
    grpo_steps: Count = Field(0, title="GRPO steps", description="Optimizer steps in an iteration. 0: as in the recipe.")
    questions: Count = Field(0, title="Evaluation questions", description="Held-out questions to score. 0: as in the recipe.")
    annotate: bool = Field(
        False,
        title="Annotate domains by hand",
        description="Wait between mining rounds until a person has reviewed the domain table. Off: the threshold decides.",
    )
    overrides: list[Override] = Field(
        [], title="Further overrides", description="`section.field=value`, for example `grpo.kl_coef=0.05`. Any field of the recipe."
    )
    begin_at: Literal[StageName, "the first stage"] = Field(
        "the first stage", title="Begin at", description="Everything before this stage must be in the store."
    )
    until: Literal[StageName, "the last stage"] = Field(
        "the last stage", title="End with", description="Only this stage and what it needs are made."
    )
    rebuild: Literal[StageName, "nothing"] = Field(
        "nothing", title="Rebuild", description="Make this stage and all that depends on it again, replacing the artifacts in the store."
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
    def last_stage(self) -> StageName | None:
        """Stage to end with; None for all."""
        return None if self.until == "the last stage" else self.until

    @property
    def rebuilt(self) -> frozenset[str]:
        """Stages to rebuild."""
        return frozenset() if self.rebuild == "nothing" else dependents(self.rebuild)


class CompareForm(Form):
    """Reinforcement learning side by side, from a recipe's fine-tuned policy."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Stages up to SFT are as in its runs, and reused if already made.")
    compared: Compared = Field(
        "methods",
        title="What",
        description="Training methods; GRPO with a refreshed and with a frozen reward model (rewards); or credit of steps, by reward, "
        "refreshed and frozen (credit).",
    )
    methods: list[Method] = Field([], title="Methods", description="grpo+os and grpo+ps: outcome and process rewards. Empty: all.")
    seeds: list[Count] = Field([], title="Seeds", description="One run of each method per seed. Empty: as in the recipe.")
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
    seeds: list[Count] = Field([], title="Seeds", description="One run of each arm per seed. Empty: as in the recipe.")
    overrides: list[Override] = Field([], title="Further overrides", description="`section.field=value`. Any field of the recipe.")

    def resolve(self) -> Recipe:
        """The recipe with the overrides. Raises `MathQuarryError` naming wrong fields."""
        seeds = [f"ablate.seeds={json.dumps(self.seeds)}"] if self.seeds else []
        return load_recipe(self.recipe, [*seeds, *self.overrides])


class IterationForm(Form):
    """The next iteration of GRPO, after the newest finished run."""

    recipe: str | None = Field(
        None, title="Recipe", description="Continue this recipe's newest finished run; empty: the newest run of any recipe."
    )
    overrides: list[Override] = Field(
        [], title="Overrides", description="`section.field=value` in `reward`, `refresh`, `grpo` or `evaluate`; the rest is as in that run."
    )


class SnapshotForm(Form):
    """Mine every crawl snapshot that is not mined yet."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Its `problems` and `mine` sections are used.")
    snapshots: str = Field(
        "/data/crawls", title="Folder of snapshots", description="Each folder inside it is a snapshot with *.warc.gz files."
    )
    overrides: list[Override] = Field([], title="Overrides", description="`section.field=value` of `problems`, `crawl` or `mine`.")


def served_store() -> str:
    """The store of served runs: `$MATHQUARRY_STORE`, which the images set."""
    return os.environ.get("MATHQUARRY_STORE", "/store")
