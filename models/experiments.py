"""Experiments that compare training methods, and typed configs of the corpus experiments (paper sections 2.2 and 5.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mathquarry.data.config import Config, Count, Positive, Share
from mathquarry.models.config import LearningRate
from mathquarry.models.train.config import HeldOutText, MixSource

Experiment = Literal["corpora", "code", "papers"]
"""`corpora`: Table 1 and Figure 3; `code`: code before mathematics, Tables 6 and 7; `papers`: arXiv only, Tables 8 and 9."""

Compared = Literal["methods", "rewards", "credit"]
"""`methods`: training methods, Figures 5 and 7; `rewards`: a refreshed and a frozen reward model, Figure 6; `credit`: every combination of
credit assignment, reward, and refreshed or frozen reward model, over iterations."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]

Method = Literal["sft", "rft", "online-rft", "dpo", "ppo", "grpo+os", "grpo+ps"]
"""A method in the comparison `methods`."""
CreditName = Literal["outcome", "step-sum", "step-min"]
"""How steps get credit: all tokens get the completion's reward (4.1.2), each step gets the sum of the step rewards from it on (4.1.3), or
their minimum (PURE, arXiv 2504.15275)."""
RewardName = Literal["rule", "outcome", "process", "mixed"]
"""A reward: the answer checker, an outcome or process reward model, or a weighted sum of a process reward model and the checker."""
RewardModelName = Literal["refreshed", "frozen"]


class CompareConfig(Config):
    """Compares training methods side by side (paper section 5.2). All other settings are those of `grpo`, `reward` and `refresh`."""

    methods: list[Method] = Field(
        ["sft", "rft", "online-rft", "dpo", "ppo", "grpo+os", "grpo+ps"],
        min_length=1,
        description="Methods; `grpo+os` and `grpo+ps` are GRPO with outcome and with process rewards.",
    )
    seeds: list[int] = Field([0, 1, 2, 3, 4], min_length=1, description="Seeds for questions and sampling. Each arm has one run per seed.")
    steps: Positive | None = Field(None, description="Steps of each run (none: as in section `grpo`).")
    learning_rates: dict[str, LearningRate] = Field({}, description="Learning rates of methods that differ from section `grpo`.")
    credits: list[CreditName] = Field(
        ["outcome", "step-sum", "step-min"],
        min_length=1,
        description="How steps get credit, for `mathquarry compare RECIPE credit`: all tokens get the completion's reward, or each step "
        "gets the sum or the minimum of the step rewards from it on (not with the reward `rule`, which has no steps).",
    )
    rewards: list[RewardName] = Field(
        ["rule", "outcome", "process", "mixed"],
        min_length=1,
        description="Rewards, for `mathquarry compare RECIPE credit`: the answer checker, an outcome or a process reward model, or a "
        "weighted sum of a process reward model and the checker.",
    )
    rule_share: Share = Field(0.1, description="Weight of the checker in the reward `mixed`. The process reward model has the rest.")
    reward_models: list[RewardModelName] = Field(
        ["refreshed", "frozen"],
        min_length=1,
        description="Reward models, for `mathquarry compare RECIPE credit`: refreshed between iterations, or frozen after training once.",
    )
    evaluate_steps: Positive = Field(100, description="Steps between evaluations.")
    evaluate_questions: Positive = Field(500, description="Held-out questions per evaluation.")


class TrainingPart(Config):
    """Training on one mix of sources. An arm can have several parts, which run one after the other."""

    mix: list[MixSource] = Field(min_length=1, description="Sources and their shares of the tokens.")
    total_tokens: Positive = Field(150_000_000_000, description="Tokens to train on (paper: 150B).")


class ArmConfig(Config):
    """One of the runs to compare."""

    corpus: Literal["mined", "crawl"] = Field(
        "mined", description="Text of sources without a path: the mined corpus, or the cleaned crawl without selection."
    )
    parts: list[TrainingPart] = Field(min_length=1, description="Training parts, in order.")


class ExperimentConfig(Config):
    """Runs that differ only in their data."""

    start: list[TrainingPart] = Field([], description="Training that all arms share, before their own. Scored as an arm named `start`.")
    arms: dict[Name, ArmConfig] = Field({}, description="The runs. The others are compared with the first.")


class AblateConfig(Config):
    """Section `ablate`, for `mathquarry ablate`. Settings that it does not have come from section `pretrain`."""

    corpora: ExperimentConfig = ExperimentConfig()
    code: ExperimentConfig = ExperimentConfig()
    papers: ExperimentConfig = ExperimentConfig()
    learning_rate: LearningRate = Field(5.3e-4, description="Peak learning rate (paper).")
    batch_tokens: Positive = Field(4_000_000, description="Tokens per optimizer step (paper: 4M).")
    seeds: list[int] = Field(
        [0, 1, 2], min_length=1, description="Seeds for weights and data order, one run of each arm per seed (paper: one)."
    )
    held_out: list[HeldOutText] = Field(
        [HeldOutText(name="problems")], description="Held-out texts on which every arm is measured during training (our choice)."
    )
    held_out_steps: Positive = Field(1000, description="Steps between measurements (our choice).")
    fine_tune_steps: Count = Field(
        0,
        description="Fine-tune every arm for this many steps with section `sft`, and score the result (our choice, for models too small to "
        "learn from examples in the prompt). 0: only score arms with section `harness`.",
    )
