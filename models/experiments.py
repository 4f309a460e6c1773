"""What can be compared, and the typed configs of the corpus experiments: what small runs say about data (paper sections 2.2 and 5.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data.config import Config, Count, Positive
from models.config import HeldOutText, LearningRate, MixSource

Experiment = Literal["corpora", "code", "papers"]
"""`corpora`: Table 1 and Figure 3; `code`: code before mathematics, Tables 6 and 7; `papers`: arXiv only, Tables 8 and 9."""

Compared = Literal["methods", "rewards"]
"""`methods`: training methods, Figures 5 and 7; `rewards`: a reward model refreshed between iterations, and a frozen one, Figure 6."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class TrainingPart(Config):
    """Training on one mix; an arm with several does one after the other."""

    mix: list[MixSource] = Field(min_length=1, description="Sources and their shares of tokens.")
    total_tokens: Positive = Field(150_000_000_000, description="Tokens of training (paper: 150B).")


class ArmConfig(Config):
    """One of the runs that are compared."""

    corpus: Literal["mined", "crawl"] = Field(
        "mined", description="What sources without a path are: the mined corpus, or the crawl cleaned in the same way and not selected."
    )
    parts: list[TrainingPart] = Field(min_length=1, description="What it is trained on, in order.")


class ExperimentConfig(Config):
    """Runs that differ in their data only."""

    start: list[TrainingPart] = Field([], description="Training that all arms share, before their own; scored as an arm named `start`.")
    arms: dict[Name, ArmConfig] = Field({}, description="The runs; the first is what others are compared with.")


class AblateConfig(Config):
    """Section `ablate`, for `mathquarry ablate`. What it does not name is as in section `pretrain`."""

    corpora: ExperimentConfig = ExperimentConfig()
    code: ExperimentConfig = ExperimentConfig()
    papers: ExperimentConfig = ExperimentConfig()
    learning_rate: LearningRate = Field(5.3e-4, description="Peak rate (paper).")
    batch_tokens: Positive = Field(4_000_000, description="Tokens in one optimizer step (paper: 4M).")
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="Seeds of weights and order, one run of each arm for each (paper: one).")
    held_out: list[HeldOutText] = Field(
        [HeldOutText(name="problems")], description="What every arm is measured on during training (our choice)."
    )
    held_out_steps: Positive = Field(1000, description="Steps between two points of the curves (our choice).")
    fine_tune_steps: Count = Field(
        0,
        description="Fine-tune every arm for so many steps with section `sft`, and score that (our choice, for models too small to learn "
        "from examples in the prompt); 0: arms are scored by section `harness` alone.",
    )
