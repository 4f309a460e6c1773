"""Config of curated solutions (paper section 3)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mathquarry.data.config import Config, Language, Share
from mathquarry.data.problems.config import AnswerFrom, Column

SolutionFormat = Literal["cot", "pot", "tool"]


class SolutionFiles(Config):
    """Your own worked solutions, and the columns to read."""

    path: str = Field(description="File (Parquet, Arrow, CSV, JSONL or JSON, may be packed) or `hf://owner/name[@revision]:config:split`.")
    question: Column = Field("question", description="Column of the questions; `messages.0.content` goes into lists and objects.")
    solution: Column = Field("solution", description="Column of the solutions.")
    answer: Column | None = Field(None, description="Column of the final answers; if unset, they are in the solutions.")
    answer_from: AnswerFrom = Field(
        "boxed",
        description="Where a solution has its answer: in its last `\\boxed{}`, after its last `####` (`hash`), or nowhere (`text`), so "
        "that `answer` is needed. Training solutions always end in a box: an unboxed answer is boxed.",
    )
    format: SolutionFormat = Field(
        "cot",
        description="`cot`; `pot`: a Python program, fenced or not; `tool`: text with programs fenced as `python` and their output as "
        "`output`, which is read but not trained.",
    )
    language: Language | None = Field(None, description="Language of the questions; if unset, Chinese if they have Chinese characters.")

    @model_validator(mode="after")
    def _an_answer_stands_somewhere(self) -> SolutionFiles:
        if self.answer_from == "text" and self.answer is None and self.format != "pot":
            raise ValueError('answer_from is `text`: name the column of the answers with `answer`, or set it to "boxed" or "hash"')
        return self


class CurateConfig(Config):
    """Stage `curate`: problems -> chain-of-thought, program-of-thought and tool-integrated solutions (paper section 3.1)."""

    formats: dict[SolutionFormat, Annotated[float, Field(gt=0)]] = Field(
        {"cot": 1.0, "pot": 1.0, "tool": 1.0},
        description="Share of problems that get a solution in each format (1.0: all).",
    )
    files: list[SolutionFiles] = Field([], description="Your own solutions, in addition to those of the problems.")
    wrong_step_share: Share = Field(
        0.0,
        description="Share of generated chain-of-thought solutions whose last step takes the wrong operation (our choice, `tiny` only).",
    )
    seed: int = Field(0, description="Seed of the choice of formats and of the planted errors.")
