"""Configs of reward models (paper sections 4.1.2 to 4.1.4)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mathquarry.data.config import Config, Positive, Share
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.solutions.config import SolutionFormat
from mathquarry.models.config import LearningRate, Supervision
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import ScheduleConfig, TrainConfig


class LabelConfig(Config):
    """Process labels as in Math-Shepherd (arXiv 2312.08935, the paper's reference for reward data)."""

    completions: Positive = Field(8, description="Completions per prefix, N (Math-Shepherd).")
    estimate: Literal["hard", "soft"] = Field(
        "hard", description="`hard`: 1 if any completion is correct; `soft`: the share of correct ones (Math-Shepherd: hard)."
    )


class RewardConfig(TrainConfig):
    """Stage `reward`: the reward model's first training, and its refresh with replay (paper sections 4.1.2 to 4.1.4, 4.2)."""

    supervision: Supervision = Field("process", description="`outcome`: label the last token; `process`: label each step's last token.")
    initialise_from: Literal["base", "sft"] = Field("base", description="Model that gets the new head (paper: the base model).")
    problem_sets: list[str] = Field(
        [],
        description="Training sets whose questions are used, by name. Empty: all (paper: GSM8K and MATH, as recipe `paper-7b` sets it).",
    )
    questions: Positive = Field(144_000, description="Training questions to sample solutions for (paper: 144K questions in RL).")
    group_size: Positive = Field(15, description="Solutions sampled per question (Math-Shepherd: 15).")
    label: LabelConfig = LabelConfig()
    rollout: RolloutConfig = RolloutConfig()
    learning_rate: LearningRate = Field(2e-5, description="Learning rate (paper).")
    batch_tokens: Positive = Field(256 * 1024, description="Tokens per optimizer step (our choice).")
    epochs: Positive = Field(1, description="Passes over the data of the first training (Math-Shepherd: 1).")
    schedule: ScheduleConfig = ScheduleConfig(kind="cosine", warmup_steps=0)
    validation_share: Share = Field(0.1, description="Share of questions held out for evaluating the reward model (our choice).")
    grade: GradeConfig = GradeConfig()


ReplayOf = Literal["mix", "history"]
RefreshData = Literal["sampled", "rollouts"]


class RefreshConfig(Config):
    """How the reward model is refreshed between iterations (paper section 4.1.4). Other settings are those of its first training."""

    data: RefreshData = Field(
        "sampled",
        description="New solutions: `sampled` from the newest policy (paper), or the `rollouts` of the last iteration with their verdicts "
        "(not in the paper).",
    )
    questions: Positive = Field(8192, description="Questions to take new solutions of, all if there are fewer (our choice).")
    epochs: Positive = Field(1, description="Passes over the data of a refresh (our choice).")
    enabled: bool = Field(True, description="If off, all iterations use the first reward model (for comparison; not in the paper).")
    replay_share: Share = Field(0.1, description="Share drawn from all earlier reward data (paper: 10 %).")
    replay_of: ReplayOf = Field(
        "mix",
        description="What `replay_share` is a share of: `mix`, all data that a refresh trains on, or `history`, all earlier reward data. "
        "The paper does not say (our choice: `mix`).",
    )


def check_rollouts(supervision: Supervision, format: SolutionFormat) -> None:
    """Raise `MathQuarryError` if rollouts of this format cannot be labelled for this supervision."""
    if supervision == "process" and format == "tool":
        raise MathQuarryError(
            "refresh.data is `rollouts` and reward.supervision is `process`, but grpo.format is `tool`: steps are labelled by completing "
            "them, which the reward stage does without tools. Set reward.supervision to `outcome`, or refresh.data to `sampled`."
        )
