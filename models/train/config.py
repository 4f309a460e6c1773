"""Configs of supervised training: pretraining, fine-tuning, and the part shared with reward models (paper sections 2.2, 2.3 and 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mathquarry.data.config import HOW, Config, Count, Positive, Share
from mathquarry.models.config import TRACKERS, LearningRate, Precision, Tracker
from mathquarry.models.policy.config import ATTENTION, AttentionImplementation, LoRAConfig
from mathquarry.models.ranks.config import RanksConfig


class OptimizerConfig(Config):
    """AdamW as in the paper (sections 2.2 and 2.3)."""

    beta1: float = Field(0.9, gt=0, lt=1, description="First moment decay (paper).")
    beta2: float = Field(0.95, gt=0, lt=1, description="Second moment decay (paper).")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay (paper).")
    grad_clip: float = Field(1.0, gt=0, description="Maximum gradient norm (our choice).")
    offload: bool = Field(
        False,
        description="Keep the two moments in main memory, and move those of one tensor at a time to the GPU. Saves 8 bytes per weight "
        "(divided by the number of ranks), but steps are slower.",
        json_schema_extra=HOW,
    )


class ScheduleConfig(Config):
    """Multi-step schedule: linear warm-up, peak, two drops (paper section 2.2)."""

    kind: Literal["multi-step", "constant", "cosine"] = Field("multi-step", description="Shape of the schedule.")
    warmup_steps: Count = Field(2000, description="Linear warm-up (paper).")
    drops: list[tuple[Share, Share]] = Field(
        [(0.8, 0.316), (0.9, 0.1)],
        description="Pairs (share of all steps, factor): from this step on, the rate is peak x factor (paper).",
    )
    final_share: Share = Field(0.1, description="Cosine only: final rate as a share of the peak.")


class TrainConfig(Config):
    """Settings that all supervised training shares (pretraining, fine-tuning, reward models)."""

    learning_rate: LearningRate = Field(description="Learning rate; the peak, if the schedule has one.")
    batch_tokens: Positive = Field(description="Tokens per optimizer step.")
    context_tokens: Positive = Field(4096, description="Length of a packed row (paper: 4K).")
    attend_across_documents: bool = Field(
        False, description="Let documents or examples attend to earlier ones in their row (our choice: off)."
    )
    micro_batch_rows: Positive = Field(1, description="Packed rows per forward pass (our choice; does not change the gradient).")
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    lora: LoRAConfig = LoRAConfig()
    precision: Precision = Field("bfloat16", description="Autocast precision. Weights stay float32.")
    checkpoint_steps: Positive = Field(500, description="Steps between checkpoints, from which an interrupted run resumes (our choice).")
    background_checkpoints: bool = Field(
        False,
        description="Write checkpoints in the background. Needs memory for a copy of weights and optimizer state.",
        json_schema_extra=HOW,
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations of blocks in the backward pass: less memory, a third more work.", json_schema_extra=HOW
    )
    attn_implementation: AttentionImplementation = Field("documents", description=ATTENTION, json_schema_extra=HOW)
    compile: bool = Field(False, description="Compile blocks with torch.compile. Needs a C++ compiler.", json_schema_extra=HOW)
    loss_spike: float | None = Field(
        3.0,
        gt=0,
        description="Stop at a step whose loss exceeds the median of the last 20 by more than this, in nats (our choice; none: never).",
        json_schema_extra=HOW,
    )
    skipped_steps: list[Positive] = Field(
        [],
        description="Steps whose batch is skipped. Add the step that stopped a run, and the run continues from its checkpoint. Not part of "
        "the artifact's key; the summary counts them.",
        json_schema_extra=HOW,
    )
    ranks: RanksConfig = Field(RanksConfig(), description="Processes that share the work.", json_schema_extra=HOW)
    trackers: list[Tracker] = Field([], description=TRACKERS, json_schema_extra=HOW)
    seed: int = Field(0, description="Seed for the order of rows and for new weights.")


class MixSource(Config):
    """One source of the pretraining mix."""

    name: str = Field(description="Name of the source in reports.")
    weight: float = Field(gt=0, description="Share of tokens. Weights are normalised to sum to 1.")
    path: str | None = Field(
        None,
        description="JSONL or Parquet, a glob or URL of them, `hf://name:config:split`, or `generated:KIND[:SEED]` with the kinds in "
        "data/texts/generated.py. None: the mined corpus.",
    )
    text_column: str = Field("text", description="Column with the text.")
    best_tokens: Positive | None = Field(
        None, description="Read only the documents with the best `score`, up to this many of their `tokens`. None: all."
    )


class HeldOutText(Config):
    """Text that is never trained on, and the metric of how well the model predicts it."""

    name: str = Field(pattern=r"^[a-z][a-z_]*$", description="Name of the metric, `NAME_bits`: bits per byte of UTF-8.")
    path: str | None = Field(None, description="Same forms as a source's path. None: the solutions of the held-out problems.")
    documents: Positive = Field(1000, description="Number of documents or problems to read.")


class PretrainConfig(TrainConfig):
    """Stage `pretrain` (paper section 2.3)."""

    learning_rate: LearningRate = Field(4.2e-4, description="Peak rate (paper).")
    batch_tokens: Positive = Field(10_000_000, description="Tokens per optimizer step (paper: 10M).")
    total_tokens: Positive = Field(500_000_000_000, description="Tokens to train on (paper: 500B).")
    mix: list[MixSource] = Field([MixSource(name="corpus", weight=1.0)], min_length=1, description="Sources and their shares of tokens.")
    shard_tokens: Positive = Field(10_000_000, description="Tokens per token shard on disk (our choice).")
    held_out: list[HeldOutText] = Field([], description="Texts on which the model is evaluated during training (our choice).")
    held_out_steps: Positive = Field(1000, description="Steps between evaluations (our choice). There is one more at the end.")


class SFTConfig(TrainConfig):
    """Stage `sft` (paper section 3.1): 500 steps of 256 packed sequences of 4K tokens at a constant rate."""

    learning_rate: LearningRate = Field(5e-5, description="Learning rate (paper).")
    batch_tokens: Positive = Field(256 * 4096, description="Tokens per optimizer step (paper: 256 sequences of 4K).")
    steps: Positive = Field(500, description="Optimizer steps (paper).")
    schedule: ScheduleConfig = ScheduleConfig(kind="constant", warmup_steps=0)
