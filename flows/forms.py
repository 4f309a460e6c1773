"""What a person fills in to start a run from the Prefect UI. The server checks every field before anything starts."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from data.config import Config, Positive
from flows.recipe import Recipe, load_recipe
from models.config import Supervision

RecipeName = Literal["1b", "paper-7b", "smollm", "tiny"]
StageName = Literal["problems", "crawl", "mine", "pretrain", "curate", "sft", "reward", "grpo", "evaluate", "report"]
Override = Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z0-9_]+)* ?=.+$")]


class RunForm(Config):
    """A run of a recipe. Fields left empty keep the recipe's values."""

    recipe: RecipeName = Field(
        "tiny", title="Recipe", description="What to run; docs and `mathquarry run RECIPE --dry-run` say what each is."
    )
    seed: int | None = Field(None, title="Seed", description="Seed of every section that sets none of its own.")
    iterations: Positive | None = Field(None, title="GRPO iterations", description="Each with a refreshed reward model.")
    supervision: Supervision | None = Field(
        None, title="Supervision", description="Rewards at the end of an answer (outcome) or at each step (process)."
    )
    grpo_steps: Positive | None = Field(None, title="GRPO steps", description="Optimizer steps in an iteration.")
    questions: Positive | None = Field(None, title="Evaluation questions", description="Score this many held-out questions.")
    annotate: bool = Field(
        False,
        title="Annotate domains by hand",
        description="Wait between mining rounds until a person has judged the domain table. Off: the threshold decides.",
    )
    overrides: list[Override] = Field(
        [], title="Further overrides", description="`section.field=value`, for example `grpo.kl_coef=0.05`. Any field of the recipe."
    )
    begin_at: StageName | None = Field(None, title="Begin at", description="Everything before this stage must be in the store.")
    force: StageName | None = Field(None, title="Force", description="Make this stage and what depends on it again.")

    def resolve(self, review: str) -> Recipe:
        """The recipe with the overrides; `review` names a person's annotations. Raises `MathQuarryError` naming wrong fields."""
        chosen = {
            "seed": self.seed,
            "iterations": self.iterations,
            "grpo.supervision": self.supervision,
            "reward.supervision": self.supervision,
            "grpo.steps": self.grpo_steps,
            "evaluate.questions": self.questions,
            "mine.review": review if self.annotate else None,
        }
        fields = [f"{field}={value}" for field, value in chosen.items() if value is not None]
        return load_recipe(self.recipe, [*fields, *self.overrides])


class IterationForm(Config):
    """The next iteration of GRPO, after the newest finished run."""

    recipe: str | None = Field(
        None, title="Recipe", description="Go on from this recipe's newest finished run; empty: from the newest of any."
    )
    overrides: list[Override] = Field(
        [], title="Overrides", description="`section.field=value` of `reward`, `refresh`, `grpo` or `evaluate`; else as in that run."
    )


class SnapshotForm(Config):
    """Mine every crawl snapshot that was not mined yet."""

    recipe: RecipeName = Field("tiny", title="Recipe", description="Its `problems` and `mine` sections are used.")
    snapshots: str = Field(
        "/data/crawls", title="Folder of snapshots", description="Each folder inside it is a snapshot with *.warc.gz files."
    )
    overrides: list[Override] = Field([], title="Overrides", description="`section.field=value` of `problems`, `crawl` or `mine`.")


def served_store() -> str:
    """The store of served runs: `$MATHQUARRY_STORE`, which the images set."""
    return os.environ.get("MATHQUARRY_STORE", "/store")
