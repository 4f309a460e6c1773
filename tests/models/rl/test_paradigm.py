"""The methods of paper section 5.2: gradient coefficients against autograd of each objective, GAE against its sum, deviations, configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

import mathquarry.models.rl.grpo as grpo
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.example import Example, Segment, write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.rl.advantages import outcome_advantages, pad_steps, process_advantages
from mathquarry.models.rl.config import METHODS, GRPOConfig, ParadigmConfig
from mathquarry.models.rl.method import check_method
from mathquarry.models.rl.objectives import (
    clipped_token_loss,
    generalised_advantages,
    grpo_token_loss,
    likelihood_token_loss,
    preference_coefficients,
    token_weights,
)
from mathquarry.models.rl.paradigm import coefficients
from mathquarry.models.rl.update import Experience, sequence_logprobs, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.tiny import save_policy, save_problems, save_reward, scored, tiny_policy

LENGTHS = [3, 5, 2, 4, 1, 6]
REWARDS = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
GENERATOR = torch.Generator().manual_seed(2)
CLIP = {"clip_low": 0.2, "clip_high": 0.2}
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def random_logprobs() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits of all tokens (a leaf, float64), and the log-probability of token 0 at each, one vector a completion."""
    logits = torch.randn(sum(LENGTHS), 7, generator=GENERATOR, dtype=torch.float64, requires_grad=True)
    return logits, list(logits.log_softmax(-1)[:, 0].split(LENGTHS))


def gradient_of_eq_5(logits: torch.Tensor, logprobs: list[torch.Tensor], coefficients: list[torch.Tensor]) -> torch.Tensor:
    """Eq. 5 as it is printed: the mean over completions of 1/|o| sum_t GC grad log pi."""
    terms = [(c * logprob).sum() / len(logprob) for c, logprob in zip(coefficients, logprobs, strict=True)]
    return torch.autograd.grad(torch.stack(terms).sum() / len(terms), logits, retain_graph=True)[0]


def gradient_of_loss(logits: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    weights = torch.cat([torch.full((n,), w, dtype=torch.float64) for n, w in zip(LENGTHS, token_weights(LENGTHS), strict=True)])
    return torch.autograd.grad(-(weights * losses).sum(), logits, retain_graph=True)[0]


def spread(values_B: torch.Tensor) -> torch.Tensor:
    return torch.cat([value.expand(n) for value, n in zip(values_B, LENGTHS, strict=True)])


@pytest.mark.parametrize("rewards_B", [torch.ones(6), REWARDS], ids=["sft", "rft and online rft"])
def test_likelihood_gradient_has_the_coefficient_1_or_whether_the_output_is_right(rewards_B: torch.Tensor) -> None:
    logits, logprobs = random_logprobs()
    ours = gradient_of_loss(logits, likelihood_token_loss(torch.cat(logprobs), spread(rewards_B.double())))
    theirs = gradient_of_eq_5(logits, logprobs, [r.double() for r in rewards_B])
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_dpo_coefficients_give_the_gradient_of_eq_12() -> None:
    beta = 0.3
    logits, logprobs = random_logprobs()
    references = [torch.randn(n, generator=GENERATOR, dtype=torch.float64) for n in LENGTHS]
    ratios_B = torch.stack([(a - b).mean() for a, b in zip(logprobs, references, strict=True)])
    # Groups of three: (right 0, wrong 1) and (right 5, wrong 3); completions 2 and 4 have no partner.
    objective = (functional.logsigmoid(beta * (ratios_B[0] - ratios_B[1])) + functional.logsigmoid(beta * (ratios_B[5] - ratios_B[3]))) / 2
    expected = torch.autograd.grad(objective, logits, retain_graph=True)[0]
    coefficients_B, losses_P = preference_coefficients(ratios_B.detach(), REWARDS, 3, beta)
    torch.testing.assert_close(
        gradient_of_loss(logits, likelihood_token_loss(torch.cat(logprobs), spread(coefficients_B))), expected, **TOLERANCE
    )
    assert -losses_P.mean().item() == pytest.approx(objective.item())
    assert coefficients_B[2] == coefficients_B[4] == 0
    # Eq. 14's coefficient, sigma(beta r- - beta r+), up to the factor beta and the number of pairs.
    eq_14 = torch.sigmoid(beta * ratios_B[1] - beta * ratios_B[0]).item()
    assert coefficients_B[0].item() == pytest.approx(beta * eq_14 * 6 / 2)
    assert coefficients_B[1].item() == -coefficients_B[0].item()


def test_without_a_pair_dpo_has_no_gradient() -> None:
    coefficients_B, losses_P = preference_coefficients(torch.randn(4), torch.tensor([1.0, 1.0, 0.0, 0.0]), 2, 0.1)
    assert coefficients_B.eq(0).all()
    assert len(losses_P) == 0


def test_on_policy_ppo_gradient_has_the_advantage_as_coefficient() -> None:
    logits, logprobs = random_logprobs()
    advantages = [torch.randn(n, generator=GENERATOR, dtype=torch.float64) for n in LENGTHS]
    flat = torch.cat(logprobs)
    ours = gradient_of_loss(logits, clipped_token_loss(torch.exp(flat - flat.detach()), torch.cat(advantages), 0.2, 0.2))
    torch.testing.assert_close(ours, gradient_of_eq_5(logits, logprobs, advantages), **TOLERANCE)


@pytest.mark.parametrize("supervision", ["outcome", "process"])
def test_on_policy_grpo_gradient_has_the_coefficient_of_eq_21(supervision: str) -> None:
    beta = 0.04
    logits, logprobs = random_logprobs()
    references = [torch.randn(n, generator=GENERATOR, dtype=torch.float64) - 2 for n in LENGTHS]
    lengths_B = torch.tensor(LENGTHS)
    if supervision == "outcome":
        advantages_BT = outcome_advantages(torch.rand(6, generator=GENERATOR), lengths_B, 3)
    else:
        ends = [[0, 2], [4], [1], [0, 1, 3], [0], [2, 5]]
        rewards = [torch.rand(len(row), generator=GENERATOR).tolist() for row in ends]
        advantages_BT = process_advantages(pad_steps(rewards, 0.0), pad_steps(ends, -1), lengths_B, 3)
    advantages = [advantages_BT[i, :n].double() for i, n in enumerate(LENGTHS)]
    flat = torch.cat(logprobs)
    ours = gradient_of_loss(
        logits, grpo_token_loss(flat, flat.detach(), torch.cat(references), torch.cat(advantages), **CLIP, kl_coef=beta)
    )
    eq_21 = [a + beta * (torch.exp(r - p.detach()) - 1) for a, r, p in zip(advantages, references, logprobs, strict=True)]
    torch.testing.assert_close(ours, gradient_of_eq_5(logits, logprobs, eq_21), **TOLERANCE)


def test_gae_equals_the_discounted_sum_of_td_errors() -> None:
    gamma, lam, lengths_B = 0.9, 0.8, torch.tensor([4, 2])
    rewards_BT, values_BT = torch.rand(2, 4, generator=GENERATOR), torch.rand(2, 4, generator=GENERATOR)
    advantages_BT, returns_BT = generalised_advantages(rewards_BT, values_BT, lengths_B, gamma, lam)
    for i, n in enumerate([4, 2]):
        after = [*values_BT[i, 1:n].tolist(), 0.0]
        deltas = [float(rewards_BT[i, t]) + gamma * after[t] - float(values_BT[i, t]) for t in range(n)]
        for t in range(n):
            expected = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:]))
            assert float(advantages_BT[i, t]) == pytest.approx(expected, abs=1e-6)
            assert float(returns_BT[i, t]) == pytest.approx(expected + float(values_BT[i, t]), abs=1e-6)
    assert advantages_BT[1, 2:].eq(0).all()


def test_with_gamma_and_lambda_1_gae_is_the_reward_to_come_less_the_value() -> None:
    rewards_BT, values_BT = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.5, 0.9]])
    advantages_BT, returns_BT = generalised_advantages(rewards_BT, values_BT, torch.tensor([3]), 1.0, 1.0)
    torch.testing.assert_close(advantages_BT, torch.tensor([[0.8, 0.5, 0.1]]))
    torch.testing.assert_close(returns_BT, torch.ones(1, 3))


def test_the_table_of_methods_is_the_papers() -> None:
    rows = {name: (method.data, method.reward, method.advantage) for name, method in METHODS.items()}
    assert rows == {
        "sft": ("examples", "none", "constant"),
        "rft": ("offline", "rule", "reward"),
        "online-rft": ("online", "rule", "reward"),
        "dpo": ("offline", "rule", "preference"),
        "ppo": ("online", "model", "gae"),
        "grpo": ("online", "model", "group"),
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"paradigm": ParadigmConfig(reward="none")}, "needs a reward"),
        ({"paradigm": ParadigmConfig(data="examples", reward="rule", advantage="reward")}, "sampled completions"),
        ({"paradigm": METHODS["dpo"], "num_updates": 2}, "num_updates = 1"),
        ({"paradigm": METHODS["dpo"], "group_size": 1}, "at least 2"),
        ({"paradigm": ParadigmConfig(reward="rule"), "supervision": "process"}, "supervision"),
    ],
)
def test_a_combination_without_meaning_is_refused(changes: dict, named: str) -> None:
    with pytest.raises(MathQuarryError, match=named):
        check_method(GRPOConfig(**changes))


def test_dpo_raises_right_outputs_against_wrong_ones() -> None:
    config = GRPOConfig(precision="float32", paradigm=METHODS["dpo"], learning_rate=1e-2)
    policy, reference = tiny_policy(0), tiny_policy(0)
    rollouts = scored([[5, 6]] * 2, [[20, 21], [30, 31]], [[1], [1]], [[1.0], [0.0]], 2)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    losses = []
    for _ in range(5):
        advantages_BT, metrics = coefficients(rollouts, config, policy, reference, None)
        losses.append(metrics["preference_loss"])
        update_policy(policy, reference, optimizer, Experience(rollouts.prompts, rollouts.completions, advantages_BT), config)
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses == sorted(losses, reverse=True)
    good, bad = (
        float((a - b).sum())
        for a, b in zip(*(sequence_logprobs(m, rollouts.prompts, rollouts.completions, config) for m in (policy, reference)), strict=True)
    )
    assert good > 0 > bad


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    save_problems(folder / "problems", 12)
    (folder / "problems" / "train.jsonl").rename(folder / "problems" / "test.jsonl")
    examples = [
        Example(f"p{i}", f"Tom has {i} apples.", "cot", "en", [Segment(f"The answer is \\boxed{{{i}}}.")], str(i)) for i in range(12)
    ]
    problems = save_problems(folder / "problems", 12)
    write_examples(problems / "examples.jsonl", examples)
    return save_policy(folder / "policy"), save_reward(folder / "reward"), problems


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_is_a_config_of_one_loop_and_resumes_with_the_same_bytes(
    name: str, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    policy, reward, problems = inputs
    changes = {"steps": 2, "prompts_per_step": 2, "group_size": 4, "supervision": "outcome", "learning_rate": 1e-3}
    config = GRPOConfig(
        paradigm=METHODS[name],
        precision="float32",
        rollout=RolloutConfig(max_tokens=6),
        checkpoint_steps=1,
        evaluate_steps=1,
        evaluate_questions=4,
        **changes,
    )
    whole, halved = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "halved")
    summary = grpo.grpo_iteration(config, policy, reward, problems, 1, whole, problems)
    assert summary["completions"] == 2 * 2 * 4
    assert [record["step"] for record in whole.metrics.read()] == [0, 1, 2]
    moved = any(
        not torch.equal(a, b) for a, b in zip(load_policy(policy).parameters(), load_policy(whole.out / "model").parameters(), strict=True)
    )
    # A random policy is never right, so methods that learn from right completions alone have nothing to learn from.
    assert moved == (name in ("sft", "ppo", "grpo"))

    def dies(step: int, *_: object, **__: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    halved.metrics.log = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        grpo.grpo_iteration(config, policy, reward, problems, 1, halved, problems)
    resumed = Workspace.at(tmp_path / "halved")
    grpo.grpo_iteration(config, policy, reward, problems, 1, resumed, problems)
    for file in ("model/model.safetensors", "rollouts.parquet"):
        assert (whole.out / file).read_bytes() == (resumed.out / file).read_bytes()
