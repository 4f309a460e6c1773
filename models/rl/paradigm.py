"""The unified paradigm of training methods (paper section 5.2): data source x reward function x gradient coefficient.

A step takes completions from the data source, scores them, and computes a gradient coefficient for each token from the scores. The update
is the same for all methods. `mathquarry.models.rl.config.METHODS` names the paper's methods; other combinations of the three are methods,
too.

The paper leaves two points open. Our choices:
1. DPO pairs the k-th correct completion of a question with its k-th wrong one. Log-ratios are means over tokens, as in Eq. 12.
2. PPO's reward at each token is -beta log(pi / pi_ref); the reward model's score is added at the last token (Eq. 2).

Shape suffixes: B completions, T tokens.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem
from mathquarry.data.solutions.example import read_examples
from mathquarry.models.logprobs.partition import PolicyModel
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.questions import Question
from mathquarry.models.rl.advantages import outcome_advantages, pad_steps, process_advantages
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.critic import Critic
from mathquarry.models.rl.objectives import generalised_advantages, preference_coefficients
from mathquarry.models.rl.rollouts import Rollouts
from mathquarry.models.rl.selection import less_for_length
from mathquarry.models.rl.update import sequence_logprobs
from mathquarry.models.train.sft import label_solutions

Rewards = Sequence[Sequence[float]]
"""The rewards of each completion: at each step end (process), or only at the last token (outcome)."""


def coefficients(
    rollouts: Rollouts, config: GRPOConfig, policy: PolicyModel, reference: PolicyModel, critic: Critic | None
) -> tuple[torch.Tensor, dict[str, float | None]]:
    """Return the gradient coefficient of each token (coefficients_BT, float32, 0 after a completion's end) and metrics of the method.

    `rollouts` must be scored. For PPO, this also trains `critic`, the value model.
    """
    kind, lengths_B = config.paradigm.advantage, rollouts.lengths_B
    rewards = less_for_length(rollouts, config)
    if kind == "group":
        return _group(rollouts, rewards, config, policy, reference)
    if kind == "gae":
        assert critic is not None, "PPO has a value model"
        return _gae(rollouts, rewards, config, policy, reference, critic)
    metrics: dict[str, float | None] = {}
    last_B = torch.tensor([row[-1] for row in rewards])
    if kind == "preference":
        own, frozen = (sequence_logprobs(model, rollouts.prompts, rollouts.completions, config) for model in (policy, reference))
        log_ratios_B = torch.stack([(a - b).mean() for a, b in zip(own, frozen, strict=True)])
        values_B, losses_P = preference_coefficients(log_ratios_B, last_B, rollouts.group_size, config.preference_beta)
        metrics = {"preference_loss": float(losses_P.mean()) if len(losses_P) else None, "preference_pairs": float(len(losses_P))}
    else:
        values_B = torch.ones(len(rollouts.rows)) if kind == "constant" else last_B
    return values_B[:, None] * _inside(lengths_B), metrics


def _group(
    rollouts: Rollouts, rewards: Rewards, config: GRPOConfig, policy: PolicyModel, reference: PolicyModel
) -> tuple[torch.Tensor, dict[str, float | None]]:
    """GRPO's advantages (4.1.2, 4.1.3). The KL term is in the loss, or here if `kl = "reward"`."""
    metrics: dict[str, float | None] = {}
    if config.kl_place == "reward" and config.kl_coef > 0:
        own, frozen = (sequence_logprobs(model, rollouts.prompts, rollouts.completions, config) for model in (policy, reference))
        log_ratios = [a - b for a, b in zip(own, frozen, strict=True)]
        rewards = rewards_less_kl(rollouts.step_ends, rewards, log_ratios, config.kl_coef)
        metrics["kl"] = float(torch.cat(log_ratios).mean())
    shape = (rollouts.lengths_B, rollouts.group_size, config.advantage_normalisation, config.min_spread)
    if config.supervision == "outcome":
        return outcome_advantages(torch.tensor([row[-1] for row in rewards]), *shape), metrics
    rewards_BS, ends_BS = pad_steps(rewards, 0.0), pad_steps(rollouts.step_ends, -1)
    return process_advantages(rewards_BS, ends_BS, *shape, config.credit), metrics


def rewards_less_kl(
    step_ends: Sequence[Sequence[int]], rewards: Rewards, log_ratios: Sequence[torch.Tensor], kl_coef: float
) -> list[list[float]]:
    """Subtract a KL penalty from each reward: beta times the sum of log(pi_old / pi_ref) over the tokens of its step or completion.

    `log_ratios` has one vector per completion. This is PPO's penalty per token (Eq. 2), summed over the tokens that share a reward.
    """
    penalised = []
    for ends, row, ratios_T in zip(step_ends, rewards, log_ratios, strict=True):
        starts = [0, *(end + 1 for end in ends[:-1])] if len(row) == len(ends) else [0]
        sums = [float(ratios_T[start : end + 1].sum()) for start, end in zip(starts, ends[-len(starts) :], strict=True)]
        penalised.append([reward - kl_coef * kl for reward, kl in zip(row, sums, strict=True)])
    return penalised


def _gae(
    rollouts: Rollouts, rewards: Rewards, config: GRPOConfig, policy: PolicyModel, reference: PolicyModel, critic: Critic
) -> tuple[torch.Tensor, dict[str, float | None]]:
    own, frozen = (sequence_logprobs(model, rollouts.prompts, rollouts.completions, config) for model in (policy, reference))
    rewards_BT, values_BT = torch.zeros_like(_inside(rollouts.lengths_B)), torch.zeros_like(_inside(rollouts.lengths_B))
    kl_coef = config.kl_coef if config.kl_place == "reward" else 0.0
    for row, (a, b, values_T) in enumerate(zip(own, frozen, critic.values(rollouts.prompts, rollouts.completions), strict=True)):
        rewards_BT[row, : len(a)] = -kl_coef * (a - b)
        values_BT[row, : len(a)] = values_T
    for row, (ends, own_rewards) in enumerate(zip(rollouts.step_ends, rewards, strict=True)):
        rewards_BT[row, ends[-1]] += own_rewards[-1]
    advantages_BT, returns_BT = generalised_advantages(
        rewards_BT, values_BT, rollouts.lengths_B, config.ppo.discount, config.ppo.gae_lambda
    )
    loss = critic.update(rollouts.prompts, rollouts.completions, returns_BT)
    log_ratio = torch.cat([a - b for a, b in zip(own, frozen, strict=True)])
    return advantages_BT, {"value_loss": loss, "kl": float(log_ratio.mean())}


def _inside(lengths_B: torch.Tensor) -> torch.Tensor:
    return (torch.arange(int(lengths_B.max())) < lengths_B[:, None]).float()


def read_example_completions(
    folder: Path, prompter: Prompter, context_tokens: int | None, problem_ids: Container[str] | None = None
) -> tuple[list[Question], list[list[int]]]:
    """Read the chain-of-thought solutions in `folder / "examples.jsonl"` as questions with one completion each.

    Solutions that are longer than the context, or of other problems than `problem_ids` (`None`: any), are left out. Raises
    `MathQuarryError` if none is left.
    """
    examples = [example for example in read_examples(folder / "examples.jsonl") if example.format == "cot"]
    if problem_ids is not None:
        examples = [example for example in examples if example.problem_id in problem_ids]
    questions, completions = [], []
    for example, (tokens, _) in zip(examples, label_solutions(prompter, examples), strict=True):
        prompt = prompter.encode(example.question, example.format, example.language)
        if context_tokens is None or len(tokens) <= context_tokens:
            questions.append(Question(Problem(example.problem_id, example.question, example.answer, language=example.language), prompt))
            completions.append([int(token) for token in tokens[len(prompt) :]])
    if not completions:
        raise MathQuarryError(f"{folder / 'examples.jsonl'} has no chain-of-thought solution that fits the model's context.")
    return questions, completions
