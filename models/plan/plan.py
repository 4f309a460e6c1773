"""Estimates what a recipe costs on given GPUs, from formulas: tokens, FLOPs, hours, memory, disk and network for each stage.

docs/planning.md derives every formula and says which ones were checked against a run. Nothing is measured here: the shares of the peak
rates in `hardware.py` and the constants below are assumptions, and a plan is only as good as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mathquarry.data.mine.config import MineConfig
from mathquarry.data.problems.config import GeneratedProblems, ProblemFiles
from mathquarry.models.evaluate.config import EvaluateConfig, RejectionConfig
from mathquarry.models.hardware import GPU, Cluster
from mathquarry.models.memory import (
    HALF_BYTES,
    MOMENT_BYTES,
    WEIGHT_BYTES,
    Engine,
    Shape,
    default_pass_tokens,
    engine_share,
    grpo_card,
    supervised_memory,
)
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.reward.config import RefreshConfig, RewardConfig
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.train.config import PretrainConfig, SFTConfig, TrainConfig

BYTES_PER_TEXT_TOKEN = 4.0
STATE_BYTES = WEIGHT_BYTES + MOMENT_BYTES
"""A weight and its two AdamW moments, in a checkpoint for resuming."""
MEMORY_SHARE = 0.9
"""Share of a GPU's memory that can be used."""
SOLUTION_TOKENS_SHARE = 0.3
"""Average length of an answer, as a share of the maximum completion length."""
STEPS_PER_SOLUTION = 6
GSM8K_TRAIN_QUESTIONS, GSM8K_TEST_QUESTIONS = 7473, 1319
TRAIN_QUESTIONS: dict[str, int] = {"gsm8k": 7_473, "math": 7_500, "mathinstruct": 262_000, "lila-ood": 32_000, "cn-k12": 276_000}
"""Training questions of public sets; rounded where their dataset cards are."""
EXAMPLE_TOKENS = 4096 / 6.06
"""Average length of a fine-tuning example: the paper's 776K examples in 128,000 rows of 4K tokens."""
MOST_PASSES = 20.0
"""More passes than this over the same data are reported as a mistake."""
_HOUR = 3600.0


@dataclass(frozen=True)
class Estimate:
    """The cost of one stage. Tokens are the sum of those trained on, generated and scored."""

    stage: str
    gpus: int
    tokens: float
    flops: float
    hours: float
    """Wall-clock hours on all its GPUs."""
    memory: float
    """Bytes needed per GPU, including the engine's share. A stage that only generates fills the remaining memory with its cache."""
    disk: float
    """Bytes that stay on disk, plus the latest checkpoint of the training state."""
    written: float
    """Bytes of all checkpoints written during the stage."""
    network: float
    """Bytes that each GPU sends."""
    limit: Literal["", "arithmetic", "network"] = ""
    """The bottleneck of training; empty for stages without training."""


@dataclass(frozen=True)
class Passes:
    """How many times a stage goes over its data. `field` is the setting to lower if that is too often."""

    stage: str
    count: float
    data: str
    field: str


def training_questions(problems: GeneratedProblems | ProblemFiles, sets: Sequence[str] = ()) -> int | None:
    """Number of training questions in a recipe, or of some of its sets, if their sizes are known (a local file's is not: `None`)."""
    if isinstance(problems, GeneratedProblems):
        return problems.train
    if sets and problems.train_limit is not None:
        return None  # the limit is a random choice from all sets
    chosen = [entry for entry in problems.train if not sets or (entry.partition("=")[0] if "=" in entry else problems.dataset) in sets]
    names = [source.partition("=")[0] for source in chosen if source.endswith("=hub")]
    if len(names) < len(chosen) or any(name not in TRAIN_QUESTIONS for name in names):
        return problems.train_limit
    count = sum(TRAIN_QUESTIONS[name] for name in names)
    return min(count, problems.train_limit or count)


def passes_over_data(
    problems: GeneratedProblems | ProblemFiles,
    mine: MineConfig,
    pretrain: PretrainConfig,
    sft: SFTConfig,
    reward: RewardConfig,
    grpo: GRPOConfig,
    iterations: int,
    count: Callable[[Sequence[str]], int | None] | None = None,
) -> list[Passes]:
    """Return how many times each training stage goes over its data, if that is known.

    `count` returns the number of training questions in some sets (all, if none is named), by default `training_questions`.
    """
    corpus = float(max(mine.token_budgets))
    share = sum(source.weight for source in pretrain.mix if source.path is None) / sum(source.weight for source in pretrain.mix)
    found = [Passes("pretrain", pretrain.total_tokens * share / corpus, f"a corpus of {corpus:,.0f} tokens", "pretrain.total_tokens")]
    counted = count or (lambda sets: training_questions(problems, sets))
    # Solutions of generated problems are much shorter than real ones.
    if isinstance(problems, ProblemFiles) and (questions := counted(())):
        passes = sft.steps * sft.batch_tokens / (questions * EXAMPLE_TOKENS)
        found.append(Passes("sft", passes, f"{questions:,} questions", "sft.steps"))
    if grpo.uses_reward_model and (questions := counted(reward.problem_sets)):
        passes = reward.epochs * min(1.0, reward.questions / questions)
        found.append(Passes("reward", passes, f"{questions:,} questions", "reward.epochs"))
    if questions := counted(grpo.problem_sets):
        passes = iterations * grpo.steps * grpo.prompts_per_step / questions
        found.append(Passes("grpo", passes, f"{questions:,} questions", "grpo.steps"))
    return found


class Planner:
    """Estimates stages for one model on GPUs of one kind. Each stage uses as many GPUs as its config has ranks."""

    def __init__(self, shape: Shape, gpu: GPU) -> None:
        self.shape, self.gpu = shape, gpu

    def trained(self, stage: str, config: TrainConfig, tokens: float, data_bytes: float = 0.0) -> Estimate:
        """Estimate a supervised stage that trains on `tokens` tokens."""
        cluster, shape = Cluster(self.gpu, config.ranks.size), self.shape
        steps = max(1.0, tokens / config.batch_tokens)
        flops = self._train_flops(config, config.context_tokens) * tokens
        rows = config.micro_batch_rows * config.context_tokens
        passes = max(1.0, config.batch_tokens / (cluster.count * rows))
        trained = shape.trained(config.lora)
        network = steps * passes * self._sharded_traffic(cluster, trained)
        computing, sending = flops / (cluster.flops * self.gpu.train_share), network / cluster.link
        return Estimate(
            stage,
            cluster.count,
            tokens,
            flops,
            max(computing, sending) / _HOUR,
            supervised_memory(config, shape, self.gpu.card),
            (WEIGHT_BYTES + STATE_BYTES) * trained + data_bytes,
            (steps // config.checkpoint_steps) * STATE_BYTES * trained,
            network,
            "arithmetic" if computing >= sending else "network",
        )

    def generation_seconds(self, completions: float, prompt: float, answer: float, gpus: int, share: float) -> float:
        """Seconds to generate `completions` answers of `answer` tokens. As many run at once as fit into the cache, with `share` bytes on
        each of `gpus` GPUs.

        A decoding step reads all weights once, and the cache of every sequence. Large batches are limited by arithmetic instead.
        """
        if not completions:
            return 0.0
        gpu, shape = self.gpu.shared_by(gpus), self.shape
        length = prompt + answer / 2
        batch = max(1.0, min(completions / gpus, Engine(shape, share).cache_tokens / length))
        read = (HALF_BYTES * shape.weights + batch * shape.cache_bytes * length) / (gpu.bandwidth * gpu.bandwidth_share)
        computed = batch * shape.forward_flops(length) / (gpu.flops * gpu.generate_share)
        return completions * answer / gpus / batch * max(read, computed)

    def scored_seconds(self, tokens: float, context: float, gpus: int) -> float:
        """Seconds of forward passes without gradients."""
        return tokens * self.shape.forward_flops(context) / (Cluster(self.gpu, gpus).flops * self.gpu.train_share)

    def sampled(self, stage: str, completions: float, prompt: float, answer: float, gpus: int) -> Estimate:
        """Estimate a stage that only generates."""
        tokens = completions * answer
        share = MEMORY_SHARE * self.gpu.shared_by(gpus).memory
        hours = self.generation_seconds(completions, prompt, answer, gpus, share) / _HOUR
        memory = Engine(self.shape, share).least + self.shape.cache_bytes * (prompt + answer)
        flops = tokens * self.shape.forward_flops(prompt + answer)
        return Estimate(stage, gpus, tokens, flops, hours, memory, 8 * tokens, 0.0, 0.0)

    def rewarded(self, stage: str, config: RewardConfig, questions: float, epochs: float, rollouts: int | None = None) -> Estimate:
        """Estimate a reward stage: sample and label solutions, then train the reward model on them. With `rollouts`, the number of rollouts
        of a question, these are the solutions."""
        answer = SOLUTION_TOKENS_SHARE * config.rollout.max_tokens
        solutions = questions * (rollouts or config.group_size)
        sampled = 0.0 if rollouts else solutions
        completions = solutions * STEPS_PER_SOLUTION * config.label.completions if config.supervision == "process" else 0.0
        learned = self.trained(stage, config, epochs * solutions * 2 * answer, 8 * solutions * answer)
        share, gpus = MEMORY_SHARE * self.gpu.shared_by(config.ranks.size).memory, config.ranks.size
        seconds = self.generation_seconds(sampled, answer, answer, gpus, share)
        seconds += self.generation_seconds(completions, 1.5 * answer, answer / 2, gpus, share)
        generated = sampled * answer + completions * answer / 2
        return replace(
            learned,
            tokens=learned.tokens + generated,
            flops=learned.flops + generated * self.shape.forward_flops(2 * answer),
            hours=learned.hours + seconds / _HOUR,
        )

    def refreshed(self, stage: str, config: RewardConfig, refresh: RefreshConfig, grpo: GRPOConfig) -> Estimate:
        """Estimate a refresh of the reward model, on new samples or on the rollouts of an iteration of `grpo`."""
        if refresh.data == "sampled":
            return self.rewarded(stage, config, refresh.questions, refresh.epochs)
        questions = min(refresh.questions, grpo.steps * grpo.prompts_per_step)
        return self.rewarded(stage, config, questions, refresh.epochs, grpo.group_size)

    def reinforced(self, stage: str, config: GRPOConfig) -> Estimate:
        """Estimate an iteration of GRPO: generate, score with reward model and reference, update, send weights to the engine."""
        cluster, shape, card = Cluster(self.gpu, config.ranks.size), self.shape, self.gpu.card
        answer = SOLUTION_TOKENS_SHARE * config.rollout.max_tokens
        prompt = answer
        completions = float(config.steps * config.prompts_per_step * config.group_size)
        models = 2 if config.scored_by_model else 1
        step_completions = completions / config.steps
        micro = config.micro_batch_tokens or default_pass_tokens(config, shape, card)
        whole = completions * (answer + prompt / self._completions_with_a_prompt(config, micro, prompt, answer))
        passes = max(1.0, whole / config.steps / (cluster.count * micro))
        trained = shape.trained(config.lora)
        handover = HALF_BYTES * (trained if config.rollout.handover == "adapter" else shape.weights)  # rounded to bfloat16, then gathered
        gathers = (cluster.count - 1) / cluster.count * HALF_BYTES * shape.weights * models
        per_step = passes * (config.num_updates * self._sharded_traffic(cluster, trained) + gathers) + handover
        updating = config.num_updates * whole * self._train_flops(config, prompt + answer)
        computing, sending = updating / (cluster.flops * self.gpu.train_share), config.steps * per_step / cluster.link
        share = engine_share(config.rollout, card) or MEMORY_SHARE * self.gpu.shared_by(cluster.count).memory
        seconds = (
            config.steps * self.generation_seconds(step_completions, prompt, answer, cluster.count, share)
            + models * self.scored_seconds(whole, prompt + answer, cluster.count)
            + max(computing, sending)
        )
        return Estimate(
            stage,
            cluster.count,
            completions * answer,
            completions * answer * shape.forward_flops(prompt + answer) + models * whole * shape.forward_flops(answer) + updating,
            seconds / _HOUR,
            grpo_card(config, shape, card),
            (WEIGHT_BYTES + STATE_BYTES) * trained + 8 * completions * answer,
            (config.steps // config.checkpoint_steps) * STATE_BYTES * trained,
            config.steps * per_step,
            "arithmetic" if computing >= sending else "network",
        )

    def _completions_with_a_prompt(self, config: GRPOConfig, micro: float, prompt: float, answer: float) -> float:
        """Completions of a question that one pass computes together with their prompt."""
        shared = not config.attn_implementation.startswith("flash")
        return min(config.group_size, max(1.0, (micro - prompt) / answer)) if shared else 1.0

    def _train_flops(self, config: TrainConfig | GRPOConfig, context: float) -> float:
        return self.shape.train_flops(context, adapters=config.lora.rank > 0, recompute=config.gradient_checkpointing)

    def _sharded_traffic(self, cluster: Cluster, trained: float) -> float:
        """Bytes that a GPU sends in one forward and backward pass with sharded weights: weights of blocks are gathered twice in bfloat16,
        the others once in float32, and gradients of trained weights are reduced and scattered once in float32 (arXiv 2304.11277)."""
        others = (cluster.count - 1) / cluster.count
        shape = self.shape
        blocks = shape.weights - shape.outside
        return others * (2 * HALF_BYTES * blocks + WEIGHT_BYTES * shape.outside + WEIGHT_BYTES * trained)


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
    gpu: GPU,
) -> Iterator[Estimate]:
    """Estimate the stages that take time or space, in the order of a run."""
    planner = Planner(Shape.planned(model), gpu)
    corpus = float(max(mine.token_budgets))
    yield Estimate("mine", 0, corpus, 0.0, 0.0, 0.0, corpus * BYTES_PER_TEXT_TOKEN, 0.0, 0.0)
    yield planner.trained("pretrain", pretrain, pretrain.total_tokens, 4.0 * pretrain.total_tokens)
    if rejection.enabled:
        train = problems.train if isinstance(problems, GeneratedProblems) else problems.train_limit or GSM8K_TRAIN_QUESTIONS
        solutions = min(train, rejection.questions or train) * rejection.group_size * len(rejection.formats)
        answer = SOLUTION_TOKENS_SHARE * rejection.rollout.max_tokens
        yield planner.trained("sft-first", sft, sft.steps * sft.batch_tokens)
        yield planner.sampled("rejection", solutions, answer, answer, rejection.ranks.size)
    yield planner.trained("sft", sft, sft.steps * sft.batch_tokens)
    has_reward_model = grpo.uses_reward_model
    if has_reward_model:
        yield planner.rewarded("reward-0", reward, reward.questions, reward.epochs)
    for iteration in range(1, iterations + 1):
        yield planner.reinforced(f"grpo-{iteration}", grpo)
        if iteration < iterations and refresh.enabled and has_reward_model:
            yield planner.refreshed(f"reward-{iteration}", reward, refresh, grpo)
    tested = evaluate.questions or (problems.test if isinstance(problems, GeneratedProblems) else problems.test_limit)
    answer = SOLUTION_TOKENS_SHARE * evaluate.rollout.max_tokens
    answers = (2 + iterations) * len(evaluate.formats) * (tested or GSM8K_TEST_QUESTIONS) * (evaluate.k + 1)
    yield planner.sampled("evaluate", answers, answer, answer, evaluate.ranks.size)
