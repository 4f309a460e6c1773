"""Training methods in one frame (paper section 5.2): data source x reward function x gradient coefficient.

A step draws outputs from the data source, judges them, and turns the judgements into a coefficient for each token; the update is the same
for all. `models.config.METHODS` names the paper's methods; any other combination of the three is a method too.

What the paper leaves open, our choice:
1. DPO pairs the k-th right output of a question with its k-th wrong one, and its log-ratios are means over tokens, as Eq. 12 prints them;
2. PPO's reward at each token is -beta log(pi / pi_ref), plus the reward model's score at the last one (Eq. 2).

Shape suffixes: B outputs, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.errors import MathQuarryError
from data.problems.problem import Problem
from data.solutions.example import read_examples
from models.config import GRPOConfig
from models.prompts import Prompter
from models.questions import Question
from models.rl.advantages import outcome_advantages, pad_steps, process_advantages
from models.rl.critic import Critic
from models.rl.objectives import generalised_advantages, preference_coefficients
from models.rl.shares import Scorer
from models.rl.update import sequence_logprobs
from models.sft import label_solutions


@dataclass(frozen=True)
class Judged:
    """Outputs with their rewards: at each step end (process), or at the last token alone. The G of a question are neighbours."""

    prompts: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[int]]
    step_ends: Sequence[Sequence[int]]
    rewards: Sequence[Sequence[float]]
    group_size: int

    @property
    def lengths_B(self) -> torch.Tensor:
        """Tokens of each output."""
        return torch.tensor([len(output) for output in self.outputs])

    @property
    def last_B(self) -> torch.Tensor:
        """The reward at each output's last token."""
        return torch.tensor([row[-1] for row in self.rewards])


def check_method(config: GRPOConfig) -> None:
    """Raise `MathQuarryError` for a combination that has no gradient or no meaning."""
    paradigm, size = config.paradigm, config.outputs_per_question
    if paradigm.coefficient in ("group", "preference") and size < 2:
        raise MathQuarryError(f"grpo.outputs_per_question is {size}; outputs are compared within a group, which needs at least 2.")
    if paradigm.data != "examples" and config.rollout.temperature == 0:
        raise MathQuarryError("grpo.rollout.temperature is 0: all outputs of a question would be the same. Set it above 0.")
    if paradigm.coefficient != "one" and (paradigm.reward == "none" or paradigm.data == "examples"):
        raise MathQuarryError(
            f"grpo.paradigm.coefficient `{paradigm.coefficient}` needs a reward and sampled outputs; reward is `{paradigm.reward}` and "
            f"data `{paradigm.data}`."
        )
    if paradigm.coefficient == "preference" and (paradigm.reward != "rule" or config.updates_per_step > 1):
        raise MathQuarryError("grpo.paradigm.coefficient `preference` (DPO) pairs by the rule's verdict and makes one update a step.")
    if paradigm.reward == "rule" and config.supervision == "process" and paradigm.coefficient == "group":
        raise MathQuarryError("grpo.supervision is `process`, but a rule judges whole outputs. Set it to `outcome`.")
    if config.ranks.size > 1:
        _check_ranks(config)
    if config.dapo and config.dr_grpo:
        raise MathQuarryError("grpo.dapo and grpo.dr_grpo weigh tokens in two ways; set one of them.")


def _check_ranks(config: GRPOConfig) -> None:
    size = config.ranks.size
    if config.paradigm.coefficient == "gae":
        raise MathQuarryError(f"grpo.ranks makes {size} processes, but PPO's value model is trained in one. Leave grpo.ranks out.")
    if config.questions_per_step < size:
        raise MathQuarryError(
            f"grpo.questions_per_step is {config.questions_per_step}, fewer than the {size} processes of grpo.ranks, which share the "
            "questions of a step. Raise it."
        )


def needs_reward_model(config: GRPOConfig) -> bool:
    """Whether the method reads a reward checkpoint."""
    return config.paradigm.reward == "model"


def coefficients(
    judged: Judged, config: GRPOConfig, policy: Scorer, reference: Scorer, critic: Critic | None
) -> tuple[torch.Tensor, dict[str, float | None]]:
    """The gradient coefficient of each token (coefficients_BT, float32, 0 beyond an output's end), and figures of the method's own.

    PPO's value model, `critic`, is trained on the way.
    """
    kind, lengths_B = config.paradigm.coefficient, judged.lengths_B
    if kind == "group":
        return _group(judged, config), {}
    if kind == "gae":
        assert critic is not None, "PPO has a value model"
        return _gae(judged, config, policy, reference, critic)
    figures: dict[str, float | None] = {}
    if kind == "preference":
        own, frozen = (sequence_logprobs(model, judged.prompts, judged.outputs, config) for model in (policy, reference))
        log_ratios_B = torch.stack([(a - b).mean() for a, b in zip(own, frozen, strict=True)])
        values_B, losses_P = preference_coefficients(log_ratios_B, judged.last_B, judged.group_size, config.preference_beta)
        figures = {"preference_loss": float(losses_P.mean()) if len(losses_P) else None, "preference_pairs": float(len(losses_P))}
    else:
        values_B = torch.ones(len(judged.outputs)) if kind == "one" else judged.last_B
    return values_B[:, None] * _inside(lengths_B), figures


def _group(judged: Judged, config: GRPOConfig) -> torch.Tensor:
    """GRPO (4.1.2, 4.1.3); the KL term is in the loss."""
    if config.supervision == "outcome":
        return outcome_advantages(judged.last_B, judged.lengths_B, judged.group_size, by_std=not config.dr_grpo)
    rewards_BS, ends_BS = pad_steps(judged.rewards, 0.0), pad_steps(judged.step_ends, -1)
    return process_advantages(rewards_BS, ends_BS, judged.lengths_B, judged.group_size, by_std=not config.dr_grpo)


def _gae(
    judged: Judged, config: GRPOConfig, policy: Scorer, reference: Scorer, critic: Critic
) -> tuple[torch.Tensor, dict[str, float | None]]:
    own, frozen = (sequence_logprobs(model, judged.prompts, judged.outputs, config) for model in (policy, reference))
    rewards_BT, values_BT = torch.zeros_like(_inside(judged.lengths_B)), torch.zeros_like(_inside(judged.lengths_B))
    for row, (a, b, values_T) in enumerate(zip(own, frozen, critic.values(judged.prompts, judged.outputs), strict=True)):
        rewards_BT[row, : len(a)] = -config.kl_coef * (a - b)
        values_BT[row, : len(a)] = values_T
    for row, (ends, rewards) in enumerate(zip(judged.step_ends, judged.rewards, strict=True)):
        rewards_BT[row, ends[-1]] += rewards[-1]
    advantages_BT, returns_BT = generalised_advantages(rewards_BT, values_BT, judged.lengths_B, config.ppo.discount, config.ppo.gae_lambda)
    loss = critic.update(judged.prompts, judged.outputs, returns_BT)
    log_ratio = torch.cat([a - b for a, b in zip(own, frozen, strict=True)])
    return advantages_BT, {"value_loss": loss, "kl": float(log_ratio.mean())}


def _inside(lengths_B: torch.Tensor) -> torch.Tensor:
    return (torch.arange(int(lengths_B.max())) < lengths_B[:, None]).float()


def read_example_outputs(folder: Path, prompter: Prompter, context_tokens: int | None) -> tuple[list[Question], list[list[int]]]:
    """Chain-of-thought solutions of `folder / "examples.jsonl"` as questions and outputs, one each; those too long are left out."""
    examples = [example for example in read_examples(folder / "examples.jsonl") if example.format == "cot"]
    questions, outputs = [], []
    for example, (tokens, _) in zip(examples, label_solutions(prompter, examples), strict=True):
        prompt = prompter.encode(example.question, example.format, example.language)
        if context_tokens is None or len(tokens) <= context_tokens:
            questions.append(Question(Problem(example.problem_id, example.question, example.answer, language=example.language), prompt))
            outputs.append([int(token) for token in tokens[len(prompt) :]])
    if not outputs:
        raise MathQuarryError(f"{folder / 'examples.jsonl'} has no chain-of-thought solution that fits the model's context.")
    return questions, outputs
