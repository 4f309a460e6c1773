"""What a recipe will cost, from formulas: tokens, FLOPs, GPU-hours and disk for each stage.

Training a token costs 6 FLOPs a parameter, generating or scoring one costs 2 (Kaplan et al. 2020, section 2.1); attention's share, small at
4K tokens, is left out. Hours assume the stated peak and utilisation. Estimates only: nothing here was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
)

GPU_FLOPS = 989e12
"""Peak bfloat16 FLOP/s of one H100."""
TRAIN_UTILISATION = 0.4
GENERATE_UTILISATION = 0.1
"""Generation is bound by memory bandwidth; a tenth of the peak is what large batches reach."""
BYTES_PER_TEXT_TOKEN = 4.0
CHECKPOINT_BYTES_PER_PARAMETER = 4
STATE_BYTES_PER_PARAMETER = 12
"""Weights and two AdamW moments in float32, kept while a stage can still resume."""
SOLUTION_TOKENS_SHARE = 0.3
"""Share of the longest output that an answer takes on average."""
STEPS_PER_SOLUTION = 6
GSM8K_TRAIN_QUESTIONS, GSM8K_TEST_QUESTIONS = 7473, 1319


@dataclass(frozen=True)
class Estimate:
    """One stage's cost. Tokens are those trained on, generated and scored together; disk is what stays and what is needed meanwhile."""

    stage: str
    tokens: float
    flops: float
    gpu_hours: float
    disk_bytes: float


def parameters(model: ScratchModel | PretrainedModel) -> float:
    """Weights of the model: computed for one from scratch, stated in the config for a pretrained one (0 when not stated)."""
    if isinstance(model, PretrainedModel):
        return model.parameters or 0.0
    block = 4 * model.hidden**2 + 3 * model.hidden * model.intermediate + 2 * model.hidden
    return model.layers * block + 2 * model.vocabulary * model.hidden + model.hidden


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
) -> list[Estimate]:
    """Estimates of the stages that take time or room, in the order of a run."""
    size = parameters(model)
    weights = size * CHECKPOINT_BYTES_PER_PARAMETER
    training = size * STATE_BYTES_PER_PARAMETER
    corpus_tokens = float(max(mine.token_budgets))

    def trained(stage: str, tokens: float, disk: float) -> Estimate:
        flops = 6 * size * tokens
        return Estimate(stage, tokens, flops, _hours(flops, TRAIN_UTILISATION), disk)

    def with_sampling(stage: str, generated: float, scored: float, tokens: float, disk: float) -> Estimate:
        sampling, learning = 2 * size * (generated + scored), 6 * size * tokens
        hours = _hours(sampling, GENERATE_UTILISATION) + _hours(learning, TRAIN_UTILISATION)
        return Estimate(stage, generated + scored + tokens, sampling + learning, hours, disk)

    def answer_tokens(longest: int) -> float:
        return SOLUTION_TOKENS_SHARE * longest

    first = reward.questions * reward.outputs_per_question
    again = refresh.questions * reward.outputs_per_question
    outputs = grpo.steps * grpo.questions_per_step * grpo.outputs_per_question
    test = evaluate.questions or (problems.test if isinstance(problems, GeneratedProblems) else problems.test_limit or GSM8K_TEST_QUESTIONS)
    estimates = [
        Estimate("mine", corpus_tokens, 0.0, 0.0, corpus_tokens * BYTES_PER_TEXT_TOKEN),
        trained("pretrain", pretrain.total_tokens, weights + training + 4 * pretrain.total_tokens),
    ]
    fine_tuning = trained("sft", sft.steps * sft.batch_tokens, weights + training)
    if rejection.enabled:
        train = problems.train if isinstance(problems, GeneratedProblems) else problems.train_limit or GSM8K_TRAIN_QUESTIONS
        solutions = min(train, rejection.questions or train) * rejection.outputs_per_question * len(rejection.formats)
        tokens = solutions * answer_tokens(rejection.rollout.max_tokens)
        estimates += [replace(fine_tuning, stage="sft-first"), with_sampling("rejection", tokens, 0.0, 0.0, BYTES_PER_TEXT_TOKEN * tokens)]
    estimates.append(fine_tuning)
    for name, count, epochs in [("reward-0", first, reward.epochs)] + [
        (f"reward-{i}", again, refresh.epochs) for i in range(1, iterations)
    ]:
        answer = answer_tokens(reward.rollout.max_tokens)
        completions = count * STEPS_PER_SOLUTION * reward.label.completions * answer / 2 if reward.supervision == "process" else 0.0
        estimates.append(
            with_sampling(name, count * answer + completions, 0.0, epochs * count * answer, weights + training + 8 * count * answer)
        )
    for iteration in range(1, iterations + 1):
        tokens = outputs * answer_tokens(grpo.rollout.max_tokens)
        # Scored twice: by the reward model and by the reference.
        estimates.append(
            with_sampling(f"grpo-{iteration}", tokens, 2 * tokens, grpo.updates_per_step * tokens, 2 * weights + training + 8 * tokens)
        )
    evaluations = 2 + iterations
    answers = evaluations * test * (evaluate.k + 1) * answer_tokens(evaluate.rollout.max_tokens)
    estimates.append(with_sampling("evaluate", answers, 0.0, 0.0, 8 * answers))
    return estimates


def _hours(flops: float, utilisation: float) -> float:
    return flops / (GPU_FLOPS * utilisation) / 3600
