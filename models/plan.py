"""What a recipe costs on given GPUs, from formulas: tokens, FLOPs, hours, memory, disk and network for each stage.

docs/planning.md derives every formula and says what was checked against a run. Nothing here is measured by itself: the shares of the
peak rates in `hardware.py` and the constants below are assumptions, and a plan is as good as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from data.config import GeneratedProblems, MineConfig, ProblemFiles
from models.config import (
    EvaluateConfig,
    GRPOConfig,
    PretrainConfig,
    PretrainedModel,
    RefreshConfig,
    RejectionConfig,
    RewardConfig,
    ScratchModel,
    SFTConfig,
    TrainConfig,
)
from models.hardware import BANDWIDTH_UTILISATION, GENERATE_UTILISATION, TRAIN_UTILISATION, Cluster

BYTES_PER_TEXT_TOKEN = 4.0
WEIGHT_BYTES = 4
"""A weight in a checkpoint and in the trainer: float32."""
STATE_BYTES = 12
"""A weight and its two AdamW moments, in a checkpoint that training resumes from."""
TRAIN_BYTES = 16
"""The same with the gradient, in memory."""
HALF_BYTES = 2
"""A weight or activation in bfloat16."""
LAYER_ACTIVATIONS = 34
"""Bytes a token and hidden unit that one block keeps for its backward pass (arXiv 2205.05198, section 4.1, without the T x T part)."""
MEMORY_SHARE = 0.9
"""Share of a GPU's memory that can be used."""
SOLUTION_TOKENS_SHARE = 0.3
"""Share of the longest output that an answer takes on average."""
STEPS_PER_SOLUTION = 6
GSM8K_TRAIN_QUESTIONS, GSM8K_TEST_QUESTIONS = 7473, 1319
_HOUR = 3600.0


@dataclass(frozen=True)
class Shape:
    """What a model's cost depends on. `weights` counts the embeddings, too."""

    weights: float
    layers: float
    hidden: float

    @property
    def cache_bytes(self) -> float:
        """Keys and values of one token, every head with its own (grouped heads take less)."""
        return 2 * self.layers * self.hidden * HALF_BYTES

    def forward_flops(self, context: float) -> float:
        """FLOPs of one token's forward pass: 2 a weight, and causal attention over half of `context` tokens on average."""
        return 2 * self.weights + 2 * self.layers * self.hidden * context

    def train_flops(self, context: float) -> float:
        """FLOPs of one token's forward and backward pass: three times the forward pass."""
        return 3 * self.forward_flops(context)


@dataclass(frozen=True)
class Estimate:
    """One stage's cost. Tokens are those trained on, generated and scored together."""

    stage: str
    tokens: float
    flops: float
    hours: float
    """On the whole cluster."""
    memory: float
    """Bytes that each GPU needs; generation fills what is left of it with its cache."""
    disk: float
    """Bytes that stay, and the newest checkpoint of the training state."""
    written: float
    """Bytes of all checkpoints written on the way."""
    network: float
    """Bytes that each GPU sends."""
    limit: Literal["", "arithmetic", "network"] = ""
    """What limits training; empty for stages without."""


def shape_of(model: ScratchModel | PretrainedModel) -> Shape:
    """Computed for a model from scratch. For a pretrained one from its stated `parameters` (0 when not stated), as a model whose blocks
    are 128 times as wide as there are of them: 12 layers hidden^2 weights.
    """
    if isinstance(model, PretrainedModel):
        layers = ((model.parameters or 0.0) / (12 * 128**2)) ** (1 / 3)
        return Shape(model.parameters or 0.0, layers, 128 * layers)
    block = 4 * model.hidden**2 + 3 * model.hidden * model.intermediate + 2 * model.hidden
    weights = model.layers * block + 2 * model.vocabulary * model.hidden + model.hidden
    return Shape(weights, model.layers, model.hidden)


class Planner:
    """Estimates stages for one model on one cluster."""

    def __init__(self, shape: Shape, cluster: Cluster) -> None:
        self.shape, self.cluster = shape, cluster
        self._peak = cluster.gpu.flops * cluster.count

    def trained(self, stage: str, config: TrainConfig, tokens: float, data_bytes: float = 0.0) -> Estimate:
        """A supervised stage that trains on so many tokens."""
        steps = max(1.0, tokens / config.batch_tokens)
        flops = self.shape.train_flops(config.context_tokens) * tokens
        passes = max(1.0, config.batch_tokens / (self.cluster.count * config.micro_batch_rows * config.context_tokens))
        network = steps * passes * self._sharded_traffic()
        computing, sending = flops / (self._peak * TRAIN_UTILISATION), network / self.cluster.link
        return Estimate(
            stage,
            tokens,
            flops,
            max(computing, sending) / _HOUR,
            self._training_memory(config.micro_batch_rows * config.context_tokens),
            (WEIGHT_BYTES + STATE_BYTES) * self.shape.weights + data_bytes,
            (steps // config.checkpoint_steps) * STATE_BYTES * self.shape.weights,
            network,
            "arithmetic" if computing >= sending else "network",
        )

    def generation_seconds(self, outputs: float, prompt: float, answer: float) -> float:
        """Seconds to generate `outputs` answers of `answer` tokens, as many at once as the cache has room for on each GPU.

        A decoding step reads all weights once and the cache of every sequence; large batches are limited by arithmetic instead.
        """
        if not outputs:
            return 0.0
        gpu, shape = self.cluster.gpu, self.shape
        length = prompt + answer / 2
        room = max(gpu.memory * MEMORY_SHARE - HALF_BYTES * shape.weights, shape.cache_bytes * length)
        batch = max(1.0, min(outputs / self.cluster.count, room / max(1.0, shape.cache_bytes * length)))
        read = (HALF_BYTES * shape.weights + batch * shape.cache_bytes * length) / (gpu.bandwidth * BANDWIDTH_UTILISATION)
        computed = batch * shape.forward_flops(length) / (gpu.flops * GENERATE_UTILISATION)
        return outputs * answer / self.cluster.count / batch * max(read, computed)

    def scored_seconds(self, tokens: float, context: float) -> float:
        """Seconds of forward passes without gradient."""
        return tokens * self.shape.forward_flops(context) / (self._peak * TRAIN_UTILISATION)

    def sampled(self, stage: str, outputs: float, prompt: float, answer: float) -> Estimate:
        """A stage that only generates."""
        tokens = outputs * answer
        hours = self.generation_seconds(outputs, prompt, answer) / _HOUR
        memory = HALF_BYTES * self.shape.weights + self.shape.cache_bytes * (prompt + answer)
        return Estimate(stage, tokens, tokens * self.shape.forward_flops(prompt + answer), hours, memory, 8 * tokens, 0.0, 0.0)

    def rewarded(self, stage: str, config: RewardConfig, questions: float, epochs: float) -> Estimate:
        """Sampling and labelling solutions, and training the reward model on them."""
        answer = SOLUTION_TOKENS_SHARE * config.rollout.max_tokens
        solutions = questions * config.outputs_per_question
        completions = solutions * STEPS_PER_SOLUTION * config.label.completions if config.supervision == "process" else 0.0
        learned = self.trained(stage, config, epochs * solutions * 2 * answer, 8 * solutions * answer)
        seconds = self.generation_seconds(solutions, answer, answer) + self.generation_seconds(completions, 1.5 * answer, answer / 2)
        generated = solutions * answer + completions * answer / 2
        return replace(
            learned,
            tokens=learned.tokens + generated,
            flops=learned.flops + generated * self.shape.forward_flops(2 * answer),
            hours=learned.hours + seconds / _HOUR,
        )

    def reinforced(self, stage: str, config: GRPOConfig) -> Estimate:
        """An iteration of GRPO: generating, scoring by reward model and reference, updating, handing weights to the engine."""
        answer = SOLUTION_TOKENS_SHARE * config.rollout.max_tokens
        prompt = answer
        outputs = float(config.steps * config.questions_per_step * config.outputs_per_question)
        whole = outputs * (prompt + answer)
        models = 2 if config.paradigm.reward == "model" else 1
        step_outputs = outputs / config.steps
        passes = max(1.0, step_outputs * (prompt + answer) / (self.cluster.count * config.micro_batch_tokens))
        per_step = config.updates_per_step * passes * self._sharded_traffic() + HALF_BYTES * self.shape.weights
        updating = config.updates_per_step * whole * self.shape.train_flops(prompt + answer)
        computing, sending = updating / (self._peak * TRAIN_UTILISATION), config.steps * per_step / self.cluster.link
        seconds = (
            config.steps * self.generation_seconds(step_outputs, prompt, answer)
            + models * self.scored_seconds(whole, prompt + answer)
            + max(computing, sending)
        )
        frozen = models * WEIGHT_BYTES * self.shape.weights / self.cluster.count
        engine = HALF_BYTES * self.shape.weights
        return Estimate(
            stage,
            outputs * answer,
            outputs * answer * self.shape.forward_flops(prompt + answer) + models * whole * self.shape.forward_flops(answer) + updating,
            seconds / _HOUR,
            self._training_memory(config.micro_batch_tokens) + frozen + engine,
            (WEIGHT_BYTES + STATE_BYTES) * self.shape.weights + 8 * outputs * answer,
            (config.steps // config.checkpoint_steps) * STATE_BYTES * self.shape.weights,
            config.steps * per_step,
            "arithmetic" if computing >= sending else "network",
        )

    def _training_memory(self, tokens: float) -> float:
        """Weights, gradients and moments shared by all GPUs; two blocks gathered; with recomputation the input of every block and the
        inside of one, for the tokens of one forward pass."""
        shape = self.shape
        gathered = 2 * HALF_BYTES * shape.weights / max(1.0, shape.layers) if self.cluster.count > 1 else 0.0
        activations = tokens * shape.hidden * (HALF_BYTES * shape.layers + LAYER_ACTIVATIONS)
        return TRAIN_BYTES * shape.weights / self.cluster.count + gathered + activations

    def _sharded_traffic(self) -> float:
        """Bytes that a GPU sends in one forward and backward pass with sharded weights: they are gathered twice in bfloat16, and
        gradients are scattered once in float32 (arXiv 2304.11277)."""
        others = (self.cluster.count - 1) / self.cluster.count
        return others * (2 * HALF_BYTES + WEIGHT_BYTES) * self.shape.weights


def estimate(
    problems: GeneratedProblems | ProblemFiles,
    mine: MineConfig,
    model: ScratchModel | PretrainedModel,
    pretrain: PretrainConfig,
    sft: SFTConfig,
    rejection: RejectionConfig,
    reward: RewardConfig,
    grpo: GRPOConfig,
    refresh: RefreshConfig,
    iterations: int,
    evaluate: EvaluateConfig,
    cluster: Cluster,
) -> Iterator[Estimate]:
    """Estimates of the stages that take time or room, in the order of a run."""
    planner = Planner(shape_of(model), cluster)
    corpus = float(max(mine.token_budgets))
    yield Estimate("mine", corpus, 0.0, 0.0, 0.0, corpus * BYTES_PER_TEXT_TOKEN, 0.0, 0.0)
    yield planner.trained("pretrain", pretrain, pretrain.total_tokens, 4.0 * pretrain.total_tokens)
    if rejection.enabled:
        train = problems.train if isinstance(problems, GeneratedProblems) else problems.train_limit or GSM8K_TRAIN_QUESTIONS
        solutions = min(train, rejection.questions or train) * rejection.outputs_per_question * len(rejection.formats)
        answer = SOLUTION_TOKENS_SHARE * rejection.rollout.max_tokens
        yield planner.trained("sft-first", sft, sft.steps * sft.batch_tokens)
        yield planner.sampled("rejection", solutions, answer, answer)
    yield planner.trained("sft", sft, sft.steps * sft.batch_tokens)
    judged = grpo.paradigm.uses_reward_model
    if judged:
        yield planner.rewarded("reward-0", reward, reward.questions, reward.epochs)
    for iteration in range(1, iterations + 1):
        yield planner.reinforced(f"grpo-{iteration}", grpo)
        if iteration < iterations and refresh.enabled and judged:
            yield planner.rewarded(f"reward-{iteration}", reward, refresh.questions, refresh.epochs)
    tested = evaluate.questions or (problems.test if isinstance(problems, GeneratedProblems) else problems.test_limit)
    answer = SOLUTION_TOKENS_SHARE * evaluate.rollout.max_tokens
    answers = (2 + iterations) * len(evaluate.formats) * (tested or GSM8K_TEST_QUESTIONS) * (evaluate.k + 1)
    yield planner.sampled("evaluate", answers, answer, answer)
