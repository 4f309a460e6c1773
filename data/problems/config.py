"""Configs of problem sets."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from mathquarry.data.config import Config, Language, Positive, Share

ProblemSet = Literal[
    "gsm8k",
    "math",
    "cmath",
    "mgsm-zh",
    "gaokao-mathqa",
    "gaokao-mathcloze",
    "sat",
    "ocw",
    "mmlu-stem",
    "math23k",
    "lila-ood",
    "mathinstruct",
    "cn-k12",
]
SET_NAME = r"^[a-z][a-z0-9-]*$"
"""Allowed names of problem sets."""


class GeneratedProblems(Config):
    """Arithmetic word problems with step-by-step solutions, generated from a seed (our own, for the recipe `tiny`)."""

    kind: Literal["generated"] = "generated"
    train: Positive = Field(4000, description="Training problems.")
    test: Positive = Field(1000, description="Held-out problems. None has the same text as a training problem.")
    largest: Positive = Field(12, description="Largest number in a question.")
    two_step_share: Share = Field(0.5, description="Share of problems with two operations.")


Column = Annotated[str, Field(min_length=1)]
"""Name of a column. `a.b.0` selects a value inside objects and lists, if no column has this complete name."""
AnswerFrom = Literal["text", "boxed", "hash"]


class OwnProblems(Config):
    """Your own problem set: the columns of its files."""

    question: Column = Field(
        "question", description="Column with the questions. `messages.0.content` selects a value inside lists and objects."
    )
    answer: Column = Field("answer", description="Column with the answers, or with solutions that contain them.")
    answer_from: AnswerFrom = Field(
        "text", description="`text`: the whole text is the answer; `boxed`: its last `\\boxed{}`; `hash`: the text after its last `####`."
    )
    solution: Column | None = Field(None, description="Column with worked solutions. None: the answer column, if it contains solutions.")
    language: Language | None = Field(None, description="Language of the questions. None: Chinese if they have Chinese characters.")
    repeated: Literal["error", "drop"] = Field(
        "error", description="What to do if a file has the same question twice: `error`, or `drop` the second one and count it."
    )


class ProblemFiles(Config):
    """Problem sets from local files or the Hugging Face hub."""

    kind: Literal["files"] = "files"
    dataset: ProblemSet | Annotated[str, Field(pattern=SET_NAME)] = Field(
        "gsm8k", description="Set of entries that do not name one: a built-in set, or one of `sets`."
    )
    sets: dict[Annotated[str, Field(pattern=SET_NAME)], OwnProblems] = Field(
        {}, description="Your own problem sets, by their name in `dataset` and in entries (`NAME=PATH`)."
    )
    train: list[str] = Field(
        description="Training problems: files (Parquet, Arrow, CSV, JSONL or JSON, optionally compressed) or "
        "`hf://owner/name[@revision]:config:split`. Entries belong to `dataset`, or to another set as `SET=PATH`; `SET=hub` is that set's "
        "own split on the hub.",
    )
    test: list[str] = Field(description="Held-out problems, in the same forms. Never trained on.")
    train_limit: Positive | None = Field(None, description="Use the first N training problems after a seeded shuffle.")
    test_limit: Positive | None = Field(None, description="Use the first N held-out problems after a seeded shuffle.")

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> ProblemFiles:
        known = get_args(ProblemSet)
        if taken := self.sets.keys() & set(known):
            raise ValueError(f"sets.{min(taken)} has the name of a built-in set; give it another name")
        if self.dataset not in known and self.dataset not in self.sets:
            raise ValueError(f"there is no problem set {self.dataset}; known sets are {', '.join(sorted([*known, *self.sets]))}")
        return self


class ProblemsConfig(Config):
    """Stage `problems`: questions for training, and questions only for evaluation."""

    source: GeneratedProblems | ProblemFiles = Field(GeneratedProblems(), discriminator="kind", description="Source of the problems.")
    benchmarks: list[str] = Field([], description="More benchmark files, used only to decontaminate the corpus.")
    encoding: str | None = Field(
        None,
        description="Encoding of text files that are not UTF-8, by Python's name (`gb18030`, `cp1252`). If unset, such a file is an error.",
    )
    seed: int = Field(0, description="Seed for generation, shuffling and limits.")
