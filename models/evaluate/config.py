"""Configs of evaluation and rejection sampling."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mathquarry.data.config import HOW, Config, Count, Positive
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.models.config import Precision
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig


class RejectionConfig(Config):
    """Stage `rejection`: more fine-tuning examples, sampled from the policy itself (after ToRA, arXiv 2309.17452, unless marked)."""

    enabled: bool = Field(
        False,
        description="If on, the fine-tuned policy samples solutions, and the base model is fine-tuned again on the given examples plus the "
        "correct samples (our choice: off).",
    )
    questions: Positive | None = Field(None, description="Number of training questions to sample for, chosen at random (none: all).")
    formats: list[SolutionFormat] = Field(
        ["cot", "pot", "tool"],
        min_length=1,
        description="Formats to sample (the paper's data has all three); `pot` and `tool` need a sandbox.",
    )
    group_size: Positive = Field(64, description="Solutions sampled for each question in each format.")
    kept_per_question: Positive = Field(4, description="Maximum number of distinct correct solutions kept per question and format.")
    tools: ToolsConfig = ToolsConfig()
    rollout: RolloutConfig = RolloutConfig()
    grade: GradeConfig = GradeConfig()
    ranks: RanksConfig = Field(
        RanksConfig(), description="Processes that share the questions. Each has its own engine.", json_schema_extra=HOW
    )
    seed: int = Field(0, description="Seed for the choice of questions and for sampling.")


class EvaluateConfig(Config):
    """Stage `evaluate`: greedy accuracy, Pass@K and Maj@K (paper Figure 7: K up to 64 at temperature 0.7)."""

    questions: Positive | None = Field(None, description="Number of held-out questions (none: all).")
    k: Positive = Field(64, description="Samples per question (paper: up to 64).")
    k_values: list[Positive] = Field(
        [1, 4, 8, 16, 32, 64], description="Values of K to score (paper, Figure 7): those below `k`, and `k` itself."
    )
    temperature: float = Field(0.7, gt=0, description="Sampling temperature (paper).")
    formats: list[SolutionFormat] = Field(
        ["cot"],
        min_length=1,
        description="`cot`: reasoning without tools; `pot`: a program whose output is the answer; `tool`: reasoning with programs that are "
        "run (the paper reports all three; programs need a sandbox). Score names of `cot` have no prefix.",
    )
    tools: ToolsConfig = ToolsConfig()
    rollout: RolloutConfig = RolloutConfig()
    grade: GradeConfig = GradeConfig()
    ranks: RanksConfig = Field(
        RanksConfig(), description="Processes that share the questions. Each has its own engine.", json_schema_extra=HOW
    )
    seed: int = Field(0, description="Seed for sampling.")


class HarnessConfig(Config):
    """Stage `harness`: benchmarks of lm-evaluation-harness (paper Table 4: MMLU, BBH, HumanEval, MBPP)."""

    tasks: list[Annotated[str, Field(pattern=r"^[\w.-]+$")]] = Field(
        [],
        description="Tasks, groups or tags: `mmlu`, `bbh_cot_fewshot`, `humaneval`, `mbpp`, ... An empty list skips the stage.",
    )
    data: str | None = Field(
        None, description="Folder with local copies of data sets, each under its hub name (`cais/mmlu`). None: load them from the hub."
    )
    definitions: str | None = Field(None, description="Folder with more task definitions (YAML). They can run Python: use only your own.")
    num_fewshot: Count | None = Field(None, description="Few-shot examples per question (none: the task's default).")
    max_tokens: Positive | None = Field(None, description="Maximum answer length of generation tasks (none: the task's default).")
    limit: Positive | None = Field(None, description="Use only the first questions of each task (none: all).")
    batch_size: Positive = Field(8, description="Requests per forward pass (our choice).")
    precision: Precision = Field("bfloat16", description="Precision of the weights (our choice).")
    programs: ProgramsConfig = ProgramsConfig()
    seed: int = Field(0, description="Seed for few-shot examples and sampling.")
