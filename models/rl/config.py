"""Configs of reinforcement learning (paper sections 4 and 5.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mathquarry.data.config import HOW, Config, Count, Positive, Share
from mathquarry.data.grade.config import GradeConfig
from mathquarry.models.config import TRACKERS, LearningRate, Precision, Supervision, Tracker
from mathquarry.models.policy.config import ATTENTION, AttentionImplementation, LoRAConfig
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.rl.presets import with_preset
from mathquarry.models.rl.rewards.config import AnyReward, ModelReward, RuleReward
from mathquarry.models.rollout.config import RolloutConfig, ToolsConfig
from mathquarry.models.train.config import OptimizerConfig

Surrogate = Literal["clip", "cispo"]
LossNormalisation = Literal["sequence", "tokens", "constant"]
AdvantageNormalisation = Literal["group_std", "batch_std", "none"]
EngineMask = Literal["none", "tokens", "sequences"]
Credit = Literal["sum", "min"]


class ParadigmConfig(Config):
    """The three parts of a training method (paper section 5.2, Eq. 5): the source of completions, the reward function, and the gradient
    coefficient of each token. The defaults are GRPO; `METHODS` has the others."""

    data: Literal["examples", "offline", "online"] = Field(
        "online",
        description="Source of completions: `examples` (worked solutions), `offline` (sampled from the start policy) or `online` (sampled "
        "from the current policy).",
    )
    reward: Literal["none", "rule", "model"] = Field(
        "model",
        description="Reward function: none, the answer checker, or the reward model. Entries in `grpo.rewards` replace it.",
    )
    advantage: Literal["constant", "reward", "preference", "gae", "group"] = Field(
        "group",
        description="Gradient coefficient. `constant`: 1; `reward`: the reward (Eq. 10); `preference`: DPO's, over pairs (Eq. 14); `gae`: "
        "GAE with a value model (Eq. 18); `group`: the group-relative advantage, and a KL term in the loss (Eq. 21).",
    )


METHODS: dict[str, ParadigmConfig] = {
    "sft": ParadigmConfig(data="examples", reward="none", advantage="constant"),
    "rft": ParadigmConfig(data="offline", reward="rule", advantage="reward"),
    "online-rft": ParadigmConfig(data="online", reward="rule", advantage="reward"),
    "dpo": ParadigmConfig(data="offline", reward="rule", advantage="preference"),
    "ppo": ParadigmConfig(data="online", reward="model", advantage="gae"),
    "grpo": ParadigmConfig(data="online", reward="model", advantage="group"),
}
"""The paper's Table 10, row by row."""


class PPOConfig(Config):
    """Settings of PPO only (paper appendix A.1.5). The value model is initialised from the reward model (our choice)."""

    discount: float = Field(1.0, gt=0, le=1, description="Gamma (our choice).")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="Lambda of generalised advantage estimation (our choice).")
    value_learning_rate: LearningRate = Field(1e-5, description="Learning rate of the value model (our choice).")


class CollapseConfig(Config):
    """When to stop a run that has collapsed (our choice). Each criterion is checked on the mean of the last `steps` steps."""

    steps: Positive = Field(5, description="Steps over which a metric is averaged.")
    largest_kl: float = Field(2.0, gt=0, description="Largest KL to the reference, in nats per token.")
    smallest_entropy: float = Field(1e-4, ge=0, description="Smallest entropy, in nats per token. 0 turns this off.")
    shortest_completion: float = Field(1.5, ge=0, description="Smallest mean completion length, in tokens. 0 turns this off.")
    truncated_rise: Share = Field(0.5, description="Largest increase of the share of truncated completions since the run's first steps.")
    largest_mismatch: float = Field(
        0.5,
        gt=0,
        description="Largest mean difference between the trainer's and the engine's log-probabilities of the sampled tokens, in nats.",
    )
    hacking_steps: Annotated[int, Field(ge=4)] | None = Field(
        None,
        description="Stop if over this many steps the reward rises while held-out accuracy or the reward's AUC against the answer checker "
        "falls, comparing the second half with the first. None: never.",
    )
    hacking_fall: Share = Field(0.02, description="Decrease of accuracy or AUC at which `hacking_steps` stops a run.")


class SelectionConfig(Config):
    """Which completions a step trains on. The paper trains on all."""

    extra_draws: Count = Field(
        0,
        description="Dynamic sampling: how many times at most to replace a group whose completions are all correct or all wrong by a group "
        "of another question (DAPO has no limit).",
    )
    verdicts: Literal["all", "mixed", "right", "wrong"] = Field(
        "all", description="Train on all completions, those of groups with correct and wrong ones, only correct ones, or only wrong ones."
    )
    overlong: Literal["keep", "mask", "penalise"] = Field(
        "keep",
        description="Completions truncated at `rollout.max_tokens`. `keep`: train on them; `mask`: do not train on them; `penalise`: lower "
        "the reward of long completions (DAPO; not in SFT and DPO).",
    )
    overlong_buffer: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="Last share of `rollout.max_tokens`, over which the penalty of `penalise` grows (DAPO: 4,096 of 20,480)."
    )
    overlong_penalty: float = Field(1.0, gt=0, description="Largest penalty of `penalise`, for a truncated completion (DAPO).")


class GRPOConfig(Config):
    """Stage `grpo`: one iteration of Algorithm 1 (paper section 4.1), or of another method in section 5.2."""

    paradigm: ParadigmConfig = ParadigmConfig()
    rewards: list[AnyReward] = Field(
        [],
        description="Rewards to add up with their weights, instead of the one in `paradigm.reward` (the paper has one reward model; "
        "our choice). Each has a `kind`: `model`, `rule`, `function` or `http`.",
    )

    problem_sets: list[str] = Field(
        [],
        description="Training sets whose questions are used, by name. Empty: all (paper: GSM8K and MATH, as recipe `paper-7b` sets it).",
    )
    steps: Positive = Field(
        4500,
        description="Steps per iteration, M (our choice: half of the paper's 9,000 for an epoch of its questions).",
    )
    supervision: Supervision = Field("process", description="`outcome`: a reward per completion (4.1.2); `process`: per step (4.1.3).")
    prompts_per_step: Positive = Field(16, description="Questions per step (paper: batch 1024 = 16 questions x 64 completions).")
    group_size: Positive = Field(64, description="Group size G (paper).")
    num_updates: Positive = Field(1, description="Gradient updates per batch, mu (paper).")
    ratio: Literal["token", "sequence"] = Field(
        "token", description="pi / pi_old per token (paper), or per completion: the geometric mean over its tokens (GSPO)."
    )
    surrogate: Surrogate = Field(
        "clip",
        description="`clip`: no gradient if the ratio has left its range (paper, Eq. 3); `cispo`: the clipped ratio is a weight, and every "
        "token has a gradient.",
    )
    clip_low: float = Field(0.2, gt=0, le=1, description="Ratios are clipped below 1 - clip_low, epsilon (our choice). 1 never clips.")
    clip_high: float = Field(0.2, gt=0, description="Ratios are clipped above 1 + clip_high, epsilon (our choice).")
    loss_normalisation: LossNormalisation = Field(
        "sequence",
        description="Divisor of a token's loss. `sequence`: completions times tokens of the completion (paper, Eq. 3); `tokens`: all "
        "tokens of the step; `constant`: completions times `rollout.max_tokens`.",
    )
    advantage_normalisation: AdvantageNormalisation = Field(
        "group_std",
        description="Divisor of rewards, after subtracting their group's mean. `group_std`: the group's standard deviation (paper, 4.1.2); "
        "`batch_std`: that of all rewards of the step; `none`: no division.",
    )
    min_spread: float = Field(
        0.0, ge=0, description="Smallest standard deviation to divide by. Rewards that differ by less get advantages below 1 (paper: 0)."
    )
    credit: Credit = Field(
        "sum",
        description="Advantage of a token with process rewards: `sum` of the rewards from its step on (paper, 4.1.3), or their minimum, "
        "`min` (PURE, arXiv 2504.15275).",
    )
    kl: Literal["loss", "reward", "none"] = Field(
        "loss",
        description="Where to apply GRPO's KL term: in the loss (paper, Eq. 3), in the reward of each step or completion, or nowhere. PPO "
        "has it in the reward (Eq. 2) or nowhere; the other methods have none.",
    )
    kl_coef: float = Field(0.04, ge=0, description="Beta of the KL term (paper).")
    preference_beta: float = Field(0.1, gt=0, description="Beta of DPO (our choice).")
    ppo: PPOConfig = PPOConfig()
    tis_cap: float | None = Field(
        None, gt=0, description="Not in the paper: weight tokens by min(pi_old / pi_engine, tis_cap), truncated importance sampling."
    )
    tis_mask: EngineMask = Field(
        "none",
        description="Not in the paper: drop `tokens` whose pi_old / pi_engine is out of bounds, or `sequences` whose product of them is.",
    )
    tis_low: float = Field(0.5, ge=0, lt=1, description="Lower bound of `tis_mask` (IcePop's).")
    tis_high: float = Field(5.0, gt=1, description="Upper bound of `tis_mask` (IcePop's).")
    learning_rate: LearningRate = Field(1e-6, description="Constant learning rate (paper).")
    optimizer: OptimizerConfig = OptimizerConfig(weight_decay=0.0)
    lora: LoRAConfig = LoRAConfig()
    micro_batch_tokens: Positive | None = Field(
        None,
        description="Padded tokens per forward pass (our choice; does not change the gradient). None: as many as take 15 % of the GPU's "
        "memory, or 16,384 on a CPU.",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute activations of blocks in the backward pass: less memory, a third more work in the update.",
        json_schema_extra=HOW,
    )
    precision: Precision = Field(
        "bfloat16",
        description="Autocast precision of the update. Trained weights stay float32. Weights of reference and reward model are stored in "
        "it.",
    )
    attn_implementation: AttentionImplementation = Field("documents", description=ATTENTION, json_schema_extra=HOW)
    rollout: RolloutConfig = RolloutConfig()
    selection: SelectionConfig = SelectionConfig()
    format: Literal["cot", "tool"] = Field(
        "cot",
        description="Format of completions: chain-of-thought (paper), or reasoning with programs that are run. Output of programs is not "
        "trained on (our choice).",
    )
    tools: ToolsConfig = ToolsConfig()
    probe_tolerance: float = Field(
        0.05, gt=0, description="Largest mean |log-probability difference| allowed between trainer and engine (our choice)."
    )
    collapse: CollapseConfig = CollapseConfig()
    evaluate_steps: Positive | None = Field(None, description="Steps between greedy evaluations on held-out questions (none: never).")
    evaluate_questions: Positive = Field(200, description="Held-out questions per evaluation.")
    keep: Literal["last", "best"] = Field(
        "last",
        description="Policy to keep at the end of the iteration: the `last` one (paper), or the `best` on held-out questions (the earliest "
        "if scores are equal; the start policy counts too).",
    )
    checkpoint_steps: Positive = Field(20, description="Steps between checkpoints, from which an interrupted run resumes (our choice).")
    background_checkpoints: bool = Field(
        True,
        description="Write checkpoints in the background. Needs memory for a copy of weights and optimizer state (our choice).",
        json_schema_extra=HOW,
    )
    ranks: RanksConfig = Field(RanksConfig(), description="Processes that share questions and update.", json_schema_extra=HOW)
    trackers: list[Tracker] = Field([], description=TRACKERS, json_schema_extra=HOW)
    grade: GradeConfig = GradeConfig()
    seed: int = Field(0, description="Seed for questions and sampling.")

    @model_validator(mode="before")
    @classmethod
    def _preset_is_its_fields(cls, values: Any) -> Any:
        return with_preset(values)

    @property
    def kl_place(self) -> Literal["loss", "reward", "none"]:
        """Where this method applies its KL term."""
        if self.paradigm.advantage == "gae":
            return "none" if self.kl == "none" else "reward"
        return self.kl if self.paradigm.advantage == "group" else "none"

    @property
    def reward_terms(self) -> list[AnyReward]:
        """The rewards of completions: `rewards`, or the one that `paradigm.reward` names."""
        if self.rewards or self.paradigm.reward == "none":
            return self.rewards
        return [ModelReward() if self.paradigm.reward == "model" else RuleReward()]

    @property
    def scored_by_model(self) -> bool:
        """Whether a reward model is among the rewards."""
        return any(term.kind == "model" for term in self.reward_terms)

    @property
    def uses_reward_model(self) -> bool:
        """Whether a reward model is needed: as a reward, or to initialise PPO's value model."""
        return self.scored_by_model or self.paradigm.advantage == "gae"

    @property
    def by_step(self) -> bool:
        """Whether each step has a reward (4.1.3), or only the completion."""
        return self.supervision == "process" and self.paradigm.advantage == "group"

    @model_validator(mode="after")
    def _rewards_have_names(self) -> GRPOConfig:
        names = [term.called for term in self.rewards]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rewards are called `{name}`; give one of them another `name`")
        return self

    @model_validator(mode="after")
    def _engine_beside_its_trainer(self) -> GRPOConfig:
        if self.rollout.tensor_parallel > 1:
            raise ValueError(f"rollout.tensor_parallel is {self.rollout.tensor_parallel}; in `grpo` each engine has one GPU: set it to 1")
        return self

    @model_validator(mode="after")
    def _the_best_is_measured(self) -> GRPOConfig:
        if self.keep == "best" and self.evaluate_steps is None:
            raise ValueError("keep is `best`, which needs scores on held-out questions: set evaluate_steps")
        return self

    @property
    def trainer_generates(self) -> bool:
        """Whether completions come from the trainer's own module, and not from an engine with weights of its own."""
        return self.rollout.engine == "transformers" and self.ranks.size == 1 and not self.rollout.ahead

    @property
    def precision_beside_adapters(self) -> Precision:
        """Precision of the weights beside adapters. If the trainer's own module generates, float32, since generation has no autocast."""
        return "float32" if self.trainer_generates else self.precision

    @model_validator(mode="after")
    def _adapters_as_sampled(self) -> GRPOConfig:
        if self.lora.dropout:
            raise ValueError(f"lora.dropout is {self.lora.dropout}; the trained policy must sample without dropout: set it to 0")
        if self.rollout.handover == "adapter" and not self.lora.rank:
            raise ValueError("rollout.handover is `adapter`, but there are no adapters: set lora.rank, or another handover")
        return self
