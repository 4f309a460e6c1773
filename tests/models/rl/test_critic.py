"""PPO's value model and the token rewards that it learns from."""

from __future__ import annotations

import pytest
import torch

from mathquarry.models.rl.config import METHODS, GRPOConfig, PPOConfig
from mathquarry.models.rl.critic import Critic
from mathquarry.models.rl.paradigm import coefficients
from mathquarry.models.rl.update import sequence_logprobs
from mathquarry.models.train.config import OptimizerConfig
from tests.models.rl.tiny import scored, tiny_policy, tiny_reward_model

CONFIG = GRPOConfig(precision="float32", paradigm=METHODS["ppo"], kl_coef=0.3, ppo=PPOConfig(gae_lambda=1.0))
ROLLOUTS = scored([[5, 6, 7]] * 2, [[20, 21, 22], [30]], [[0, 2], [0]], [[0.9], [0.2]], 2)


def critic_of_halves(config: GRPOConfig = CONFIG) -> Critic:
    """A value model that expects 0.5 everywhere: the sigmoid of 0."""
    model = tiny_reward_model(3)
    torch.nn.init.zeros_(model.score.weight)
    if model.score.bias is not None:
        torch.nn.init.zeros_(model.score.bias)
    return Critic(model, config)


def hand_worked(config: GRPOConfig) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(advantages_BT, returns_BT, KL) with gamma = lambda = 1 and all values 0.5: what is still to come, and that less 0.5."""
    own, frozen = (sequence_logprobs(tiny_policy(seed), ROLLOUTS.prompts, ROLLOUTS.completions, config) for seed in (0, 1))
    # The penalty of a token is beta (log pi - log pi_ref): what the policy says more often than the reference costs.
    (a, b, c), (d,) = ([-config.kl_coef * float(x - y) for x, y in zip(o, f, strict=True)] for o, f in zip(own, frozen, strict=True))
    to_come = torch.tensor([[a + b + c + 0.9, b + c + 0.9, c + 0.9], [d + 0.2, 0.0, 0.0]])
    inside = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    return to_come - 0.5 * inside, to_come, float(torch.cat(own).sub(torch.cat(frozen)).mean())


def test_a_token_costs_what_the_policy_says_more_often_than_the_reference_and_the_last_one_earns_the_score() -> None:
    expected_BT, _, kl = hand_worked(CONFIG)
    assert abs(kl) > 0.05, "the two policies should differ, or the sign could not be seen"
    advantages_BT, metrics = coefficients(ROLLOUTS, CONFIG, tiny_policy(0), tiny_policy(1), critic_of_halves())
    torch.testing.assert_close(advantages_BT, expected_BT, rtol=1e-4, atol=1e-5)
    assert metrics["kl"] == pytest.approx(kl, abs=1e-5)


@pytest.mark.parametrize("field", ["discount", "gae_lambda"])
def test_discount_and_lambda_are_the_configs(field: str) -> None:
    """Without a KL term, advantages of completion 1 are 0.9 discounted over what is left; by hand, from the values of 0.5."""
    settings = {"discount": 1.0, "gae_lambda": 1.0, field: 0.5}
    config = CONFIG.model_copy(update={"kl_coef": 0.0, "ppo": PPOConfig(**settings)})
    advantages_BT, _ = coefficients(ROLLOUTS, config, tiny_policy(0), tiny_policy(1), critic_of_halves(config))
    gamma, lam = settings["discount"], settings["gae_lambda"]
    deltas = [gamma * 0.5 - 0.5, gamma * 0.5 - 0.5, 0.9 - 0.5]
    expected = [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, 3)) for t in range(3)]
    assert advantages_BT[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_value_model_has_a_rate_of_its_own() -> None:
    """The first step of AdamW is as long as its rate, whatever the gradient."""
    for rate in (1e-5, 1e-2):
        config = CONFIG.model_copy(update={"learning_rate": 3e-4, "ppo": PPOConfig(value_learning_rate=rate)})
        critic, start = Critic(tiny_reward_model(3), config), tiny_reward_model(3)
        critic.update(ROLLOUTS.prompts, ROLLOUTS.completions, torch.ones(2, 3))
        moves = [float((a - b).detach().abs().max()) for a, b in zip(critic.model.parameters(), start.parameters(), strict=True)]
        assert max(moves) == pytest.approx(rate, rel=0.05)


def test_the_value_model_learns_the_returns_with_the_weights_of_tokens() -> None:
    """Its loss is half the squared error, averaged over a completion's tokens and then over completions."""
    critic = critic_of_halves()
    _, returns_BT, _ = hand_worked(CONFIG)
    errors = (returns_BT - 0.5).square()
    loss = critic.update(ROLLOUTS.prompts, ROLLOUTS.completions, returns_BT)
    assert loss == pytest.approx(0.5 * float(errors[0].mean() + errors[1, 0]) / 2, rel=1e-4)
    for _ in range(3):
        again = critic.update(ROLLOUTS.prompts, ROLLOUTS.completions, returns_BT)
    assert again < loss


def test_the_value_model_makes_as_many_updates_as_the_policy_each_from_its_own_gradient_and_clipped() -> None:
    def moved(**changes: object) -> torch.Tensor:
        config = CONFIG.model_copy(update=changes)
        critic, start = Critic(tiny_reward_model(3), config), tiny_reward_model(3)
        critic.optimizer = torch.optim.SGD(critic.model.parameters(), lr=1e-3)
        critic.update(ROLLOUTS.prompts, ROLLOUTS.completions, torch.ones(2, 3))
        return torch.cat([(a - b).detach().flatten() for a, b in zip(critic.model.parameters(), start.parameters(), strict=True)])

    unclipped = OptimizerConfig(grad_clip=1e9)
    once, thrice = moved(optimizer=unclipped), moved(optimizer=unclipped, num_updates=3)
    torch.testing.assert_close(thrice, 3 * once, rtol=0.05, atol=1e-5)
    assert float(moved(optimizer=OptimizerConfig(grad_clip=1e-2)).norm()) == pytest.approx(1e-5, rel=0.02)
