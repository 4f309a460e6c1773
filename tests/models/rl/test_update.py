"""The policy update: invariances, pi_old, the frozen reference."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.optim import AdamW
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience, make_optimizer, sequence_logprobs, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import OptimizerConfig
from mathquarry.models.train.offload import OffloadedAdamW
from tests.models.rl.tiny import tiny_policy

CONFIG = GRPOConfig(precision="float32", learning_rate=1e-3)
GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (4, 4, 9, 9, 2, 2, 6, 6)]
COMPLETIONS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (3, 7, 1, 5, 12, 2, 6, 4)]
EXPERIENCE = Experience(PROMPTS, COMPLETIONS, torch.randn(8, 12, generator=GENERATOR))


def gradient_of_one_update(micro_batch_tokens: int, experience: Experience = EXPERIENCE) -> torch.Tensor:
    """The gradient that one update takes, read off plain gradient descent with rate 1 and no clipping."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    before = torch.cat([weights.detach().flatten().clone() for weights in policy.parameters()])
    config = CONFIG.model_copy(update={"micro_batch_tokens": micro_batch_tokens, "optimizer": OptimizerConfig(grad_clip=1e9)})
    update_policy(policy, reference, torch.optim.SGD(policy.parameters(), lr=1.0), experience, config)
    return before - torch.cat([weights.detach().flatten() for weights in policy.parameters()])


def test_one_forward_pass_and_eight_give_the_same_gradient() -> None:
    together, apart = gradient_of_one_update(10_000), gradient_of_one_update(1)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-6)
    assert together.norm() > 0.1


def test_the_order_of_completions_does_not_matter() -> None:
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    shuffled = Experience([PROMPTS[i] for i in order], [COMPLETIONS[i] for i in order], EXPERIENCE.advantages_BT[order])
    torch.testing.assert_close(gradient_of_one_update(40), gradient_of_one_update(40, shuffled), rtol=1e-4, atol=1e-6)


def test_repeated_completions_weigh_as_often_as_they_were_sampled() -> None:
    rows = [0, 1, 0, 3, 3, 3]
    advantages_BT = EXPERIENCE.advantages_BT[rows]
    repeated = Experience([PROMPTS[i] for i in rows], [COMPLETIONS[i] for i in rows], advantages_BT)
    # A hair of difference in the advantages keeps copies apart.
    apart = Experience(repeated.prompts, repeated.completions, advantages_BT * (1 + torch.arange(6)[:, None] * 1e-6))
    torch.testing.assert_close(gradient_of_one_update(40, repeated), gradient_of_one_update(40, apart), rtol=1e-3, atol=1e-5)


def test_gradient_is_eq_21_written_out() -> None:
    policy, reference, beta = tiny_policy(0), tiny_policy(1), CONFIG.kl_coef
    objective = torch.tensor(0.0)
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        for t, token in enumerate(completion):
            prefix = torch.tensor([prompt + completion[:t]])
            log_pi = policy(prefix).logits[0, -1].log_softmax(-1)[token]
            log_ref = reference(prefix).logits[0, -1].log_softmax(-1)[token].detach()
            coefficient = EXPERIENCE.advantages_BT[row, t] + beta * (torch.exp(log_ref - log_pi.detach()) - 1)
            objective = objective + coefficient * log_pi / (len(completion) * len(COMPLETIONS))
    expected = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(-objective, list(policy.parameters()))])
    torch.testing.assert_close(gradient_of_one_update(60), expected, rtol=1e-3, atol=1e-5)


def run_updates(updates: int) -> tuple[PreTrainedModel, PreTrainedModel, dict[str, float]]:
    policy, reference = tiny_policy(0), tiny_policy(1)
    config = CONFIG.model_copy(update={"num_updates": updates, "micro_batch_tokens": 40})
    metrics = update_policy(policy, reference, make_optimizer(policy, config), EXPERIENCE, config)
    return policy, reference, metrics


def test_with_one_update_the_ratio_is_exactly_1() -> None:
    _, _, metrics = run_updates(1)
    assert metrics["ratio_min"] == metrics["ratio_max"] == 1.0
    assert metrics["clip_fraction"] == 0.0


def test_with_more_updates_the_ratio_is_to_the_policy_that_sampled() -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"learning_rate": 1e-2, "num_updates": 4})
    metrics = update_policy(policy, tiny_policy(1), make_optimizer(policy, config), EXPERIENCE, config)
    assert metrics["ratio_max"] > 1.2
    assert 0 < metrics["clip_fraction"] < 1


def test_the_reference_does_not_change_and_gets_no_gradient() -> None:
    _, reference, _ = run_updates(2)
    fresh = tiny_policy(1)
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), fresh.parameters(), strict=True))
    assert all(weights.grad is None for weights in reference.parameters())


def test_kl_to_an_equal_reference_is_0() -> None:
    policy = tiny_policy(0)
    metrics = update_policy(policy, copy.deepcopy(policy), make_optimizer(policy, CONFIG), EXPERIENCE, CONFIG)
    assert metrics["kl"] == 0.0


def test_without_kl_the_reference_is_not_asked() -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"kl_coef": 0.0})
    metrics = update_policy(policy, None, make_optimizer(policy, config), EXPERIENCE, config)  # type: ignore[arg-type]
    assert metrics["kl"] is None


def test_good_completions_become_likelier_and_bad_ones_rarer() -> None:
    advantages_BT = torch.ones(8, 12) * torch.tensor([1.0, -1.0] * 4)[:, None]
    experience = Experience(PROMPTS, COMPLETIONS, advantages_BT)
    policy = tiny_policy(0)
    config = CONFIG.model_copy(update={"kl_coef": 0.0})
    optimizer = make_optimizer(policy, config)
    losses = [update_policy(policy, policy, optimizer, experience, config.model_copy(update={"num_updates": n}))["loss"] for n in (1, 9)]
    assert losses[1] < losses[0]


def test_gradients_are_clipped_to_the_configured_norm() -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"optimizer": OptimizerConfig(grad_clip=1e-3)})
    before = torch.cat([weights.detach().flatten().clone() for weights in policy.parameters()])
    metrics = update_policy(policy, tiny_policy(1), torch.optim.SGD(policy.parameters(), lr=1.0), EXPERIENCE, config)
    after = torch.cat([weights.detach().flatten() for weights in policy.parameters()])
    assert metrics["gradient_norm"] > 1e-3
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_a_gradient_that_is_not_finite_stops_the_run() -> None:
    experience = Experience(PROMPTS, COMPLETIONS, torch.full((8, 12), float("nan")))
    policy = tiny_policy(0)
    with pytest.raises(MathQuarryError, match="update 1 of a GRPO step has gradient norm nan"):
        update_policy(policy, tiny_policy(1), make_optimizer(policy, CONFIG), experience, CONFIG)


def test_without_kl_completions_with_coefficients_of_0_are_skipped_and_still_count_in_the_mean() -> None:
    advantages_BT = EXPERIENCE.advantages_BT.clone()
    advantages_BT[4:] = 0.0
    policies = [tiny_policy(0), tiny_policy(0)]
    passes: tuple[list[torch.Size], list[torch.Size]] = ([], [])
    config = CONFIG.model_copy(update={"kl_coef": 0.0, "optimizer": OptimizerConfig(grad_clip=1e9)})
    halves = Experience(PROMPTS[:4], COMPLETIONS[:4], advantages_BT[:4])
    whole = Experience(PROMPTS, COMPLETIONS, advantages_BT)
    for policy, experience, rate, shapes in zip(policies, (whole, halves), (1.0, 0.5), passes, strict=True):
        policy.model.layers[0].register_forward_pre_hook(lambda _, inputs, shapes=shapes: shapes.append(inputs[0].shape))
        update_policy(policy, policy, torch.optim.SGD(policy.parameters(), lr=rate), experience, config)
    assert passes[0] == passes[1]
    for one, other in zip(*(policy.parameters() for policy in policies), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_weight_decay_shrinks_weights_that_have_no_gradient() -> None:
    """Without advantages, a policy that is its reference has gradient 0, and AdamW still multiplies weights by 1 - rate x decay."""
    policy, start = tiny_policy(0), tiny_policy(0)
    config = CONFIG.model_copy(update={"learning_rate": 0.1, "optimizer": OptimizerConfig(weight_decay=0.5)})
    nothing = Experience(PROMPTS, COMPLETIONS, torch.zeros(8, 12))
    metrics = update_policy(policy, start, make_optimizer(policy, config), nothing, config)
    assert metrics["gradient_norm"] == 0.0
    for now, before in zip(policy.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(now, before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(
    ("changes", "kind", "rate", "betas", "decay"),
    [
        ({}, AdamW, 1e-6, (0.9, 0.95), 0.0),
        ({"learning_rate": 3e-4}, AdamW, 3e-4, (0.9, 0.95), 0.0),
        ({"optimizer": OptimizerConfig(beta1=0.8, beta2=0.9, weight_decay=0.3)}, AdamW, 1e-6, (0.8, 0.9), 0.3),
        ({"optimizer": OptimizerConfig(weight_decay=0.0, offload=True)}, OffloadedAdamW, 1e-6, (0.9, 0.95), 0.0),
    ],
)
def test_the_optimizer_is_the_configs_adamw(changes: dict, kind: type, rate: float, betas: tuple[float, float], decay: float) -> None:
    optimizer = make_optimizer(tiny_policy(0), GRPOConfig(**changes))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (rate, betas, decay)


def second_update_at_ratio(ratio: float, advantage: float = 1.0, **changes: object) -> dict[str, float | None]:
    """Metrics of the second of two updates on one token, which the first made `ratio` times as likely."""
    config = CONFIG.model_copy(update={"num_updates": 2, "kl_coef": 0.0, "optimizer": OptimizerConfig(grad_clip=1e9), **changes})
    experience = Experience([[5, 6, 7]], [[20]], torch.full((1, 1), advantage))
    rate = 1e-3
    for _ in range(8):
        policy = tiny_policy(0)
        metrics = update_policy(policy, policy, torch.optim.SGD(policy.parameters(), lr=rate), experience, config)
        assert metrics["ratio_max"] is not None
        rate *= math.log(ratio) / math.log(metrics["ratio_max"])
    assert metrics["ratio_max"] == pytest.approx(ratio, abs=1e-4)
    return metrics


@pytest.mark.parametrize(
    ("ratio", "high", "cut"),
    [(1.15, 0.2, False), (1.25, 0.2, True), (1.25, 0.28, False), (1.275, 0.28, False), (1.285, 0.28, True)],
)
def test_an_update_stops_at_the_configured_upper_clip_range(ratio: float, high: float, cut: bool) -> None:
    metrics = second_update_at_ratio(ratio, clip_high=high)
    assert (metrics["gradient_norm"] == 0.0) is cut
    assert metrics["clip_fraction_high"] == metrics["clip_fraction"] == float(cut)


@pytest.mark.parametrize(("ratio", "low", "cut"), [(0.85, 0.2, False), (0.75, 0.2, True), (0.75, 0.3, False), (0.65, 1.0, False)])
def test_an_update_stops_at_the_configured_lower_clip_range(ratio: float, low: float, cut: bool) -> None:
    metrics = second_update_at_ratio(ratio, advantage=-1.0, clip_low=low)
    assert (metrics["gradient_norm"] == 0.0) is cut
    assert metrics["clip_fraction_low"] == metrics["clip_fraction"] == float(cut)


def test_with_cispo_a_token_out_of_range_keeps_its_gradient_at_the_bounds_weight() -> None:
    inside = second_update_at_ratio(1.25, surrogate="cispo", clip_high=0.3)
    outside = second_update_at_ratio(1.25, surrogate="cispo", clip_high=0.2)
    assert outside["gradient_norm"] == pytest.approx(inside["gradient_norm"] * 1.2 / 1.25, rel=1e-3)
    assert (inside["clip_fraction"], outside["clip_fraction"]) == (0.0, 1.0)


def test_nothing_is_corrected_for_an_engine_whose_log_probabilities_are_unknown() -> None:
    policies = [tiny_policy(0), tiny_policy(0)]
    for policy, cap in zip(policies, (None, 0.5), strict=True):
        config = CONFIG.model_copy(update={"tis_cap": cap})
        update_policy(policy, tiny_policy(1), make_optimizer(policy, config), EXPERIENCE, config)
    assert all(torch.equal(a, b) for a, b in zip(policies[0].parameters(), policies[1].parameters(), strict=True))


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_second_update_weighs_by_the_ratio_of_each_token_or_of_its_sequence(ratio: str) -> None:
    changes = {"kl_coef": 0.0, "ratio": ratio, "clip_low": 1.0, "clip_high": 9.0}
    config = CONFIG.model_copy(update=changes)
    policy = tiny_policy(0)
    old = sequence_logprobs(policy, PROMPTS, COMPLETIONS, config)
    update_policy(policy, policy, torch.optim.SGD(policy.parameters(), lr=0.1), EXPERIENCE, config)
    logs = [after_T - before_T for after_T, before_T in zip(sequence_logprobs(policy, PROMPTS, COMPLETIONS, config), old, strict=True)]
    ratios = [log_T.exp() if ratio == "token" else log_T.mean().exp().expand(len(log_T)) for log_T in logs]
    rows = zip(ratios, EXPERIENCE.advantages, strict=True)
    expected = -torch.stack([(ratio_T * torch.from_numpy(advantages_T)).mean() for ratio_T, advantages_T in rows]).mean()
    fresh, twice = tiny_policy(0), config.model_copy(update={"num_updates": 2})
    metrics = update_policy(fresh, fresh, torch.optim.SGD(fresh.parameters(), lr=0.1), EXPERIENCE, twice)
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_each_update_follows_its_own_gradient_and_not_those_before_it() -> None:
    """With a negligible rate, the second update's gradient is the first's; added up it would be twice that."""
    norms = []
    for updates in (1, 2, 3):
        config = CONFIG.model_copy(update={"num_updates": updates})
        policy = tiny_policy(0)
        optimizer = torch.optim.SGD(policy.parameters(), lr=1e-9)
        norms.append(update_policy(policy, tiny_policy(1), optimizer, EXPERIENCE, config)["gradient_norm"])
        assert all(weights.grad is None for weights in policy.parameters())
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert norms[2] == pytest.approx(norms[0], rel=1e-4)


def test_how_far_the_engine_is_off_is_that_of_the_first_update() -> None:
    """Later updates differ from the engine because they learn."""
    own = [row.tolist() for row in sequence_logprobs(tiny_policy(0), PROMPTS, COMPLETIONS, CONFIG)]
    engine = [[value + 0.25 for value in row] for row in own]
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"num_updates": 3, "learning_rate": 1e-2})
    experience = Experience(PROMPTS, COMPLETIONS, EXPERIENCE.advantages_BT, engine)
    metrics = update_policy(policy, tiny_policy(1), make_optimizer(policy, config), experience, config)
    assert metrics["mismatch_mean"] == pytest.approx(0.25, abs=1e-4)
    assert metrics["mismatch_largest"] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_log_probabilities_of_sequences_are_those_at_the_sampling_temperature(temperature: float) -> None:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"rollout": RolloutConfig(temperature=temperature)})
    for prompt, completion, found_T in zip(PROMPTS, COMPLETIONS, sequence_logprobs(policy, PROMPTS, COMPLETIONS, config), strict=True):
        logits_TV = policy(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        expected_T = (logits_TV / temperature).log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)]
        torch.testing.assert_close(found_T, expected_T.detach(), rtol=1e-4, atol=1e-5)


def test_an_update_is_of_the_distribution_that_was_sampled_from() -> None:
    """At temperature 0.7 the engine's log-probabilities are those of logits / 0.7, and so are the trainer's that it is compared with."""
    config = CONFIG.model_copy(update={"rollout": RolloutConfig(temperature=0.7)})
    policy = tiny_policy(0)
    engine = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        logits_TV = policy(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        engine.append((logits_TV / 0.7).log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)].tolist())
    experience = Experience(PROMPTS, COMPLETIONS, EXPERIENCE.advantages_BT, engine)
    metrics = update_policy(policy, tiny_policy(1), make_optimizer(policy, config), experience, config)
    assert metrics["mismatch_largest"] < 1e-4
    # And the reference's are too: one that is the policy is at distance 0.
    policy, same = tiny_policy(0), tiny_policy(0)
    assert update_policy(policy, same, make_optimizer(policy, config), experience, config)["kl"] == pytest.approx(0.0, abs=1e-6)


def two_updates(**changes: object) -> tuple[torch.Tensor, list[dict]]:
    policy, config = tiny_policy(0), CONFIG.model_copy(update={"num_updates": 2, "micro_batch_tokens": 40, **changes})
    optimizer = make_optimizer(policy, config)
    metrics = [update_policy(policy, tiny_policy(1), optimizer, EXPERIENCE, config) for _ in range(2)]
    return torch.cat([weights.detach().flatten() for weights in policy.parameters()]), metrics


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", [{"gradient_checkpointing": True}, {"optimizer": OptimizerConfig(weight_decay=0.0, offload=True)}])
def test_saving_memory_changes_no_bit(precision: str, change: dict) -> None:
    plain, metrics = two_updates(precision=precision)
    saving, other_metrics = two_updates(precision=precision, **change)
    assert torch.equal(plain, saving)
    assert metrics == other_metrics


def test_recomputing_calls_each_block_again_in_the_backward_pass_and_only_in_the_update() -> None:
    policy = tiny_policy(0)
    calls: list[bool] = []
    policy.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    config = CONFIG.model_copy(update={"gradient_checkpointing": True, "micro_batch_tokens": 10_000})
    update_policy(policy, tiny_policy(1), make_optimizer(policy, config), EXPERIENCE, config)
    assert len(calls) == 2
    policy(torch.tensor([[1, 2]])).logits.sum().backward()
    assert len(calls) == 3
    assert not any(module.training for module in policy.modules())


def test_offloaded_moments_survive_a_checkpoint() -> None:
    offloading = CONFIG.model_copy(update={"optimizer": OptimizerConfig(weight_decay=0.0, offload=True)})
    policies = [tiny_policy(0), tiny_policy(0)]
    optimizers = [make_optimizer(policies[0], CONFIG), make_optimizer(policies[1], offloading)]
    for policy, optimizer in zip(policies, optimizers, strict=True):
        update_policy(policy, tiny_policy(1), optimizer, EXPERIENCE, CONFIG)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for policy, optimizer in zip(policies, optimizers, strict=True):
        update_policy(policy, tiny_policy(1), optimizer, EXPERIENCE, CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(policies[0].parameters(), policies[1].parameters(), strict=True))
