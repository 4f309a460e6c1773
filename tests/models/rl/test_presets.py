"""Losses of other papers: each preset against values worked out by hand and autograd of the paper's formula, and invalid presets."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.recipe import load_recipe, override_recipe
from mathquarry.models.rl.advantages import outcome_advantages, process_advantages
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.objectives import engine_weights, grpo_token_loss, policy_ratios, token_weights
from mathquarry.models.rl.paradigm import rewards_less_kl
from mathquarry.models.rl.presets import PRESETS
from mathquarry.models.rl.update import Experience, sequence_logprobs, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.train.config import OptimizerConfig
from tests.models.rl.tiny import tiny_policy

LENGTHS = [3, 1]
ADVANTAGES = [1.0, -2.0]
LOG_RATIOS = [[0.1, -0.2, 0.4], [-0.3]]
"""log(pi / pi_old) of two completions' tokens: ratios 1.105, 0.819, 1.492 and 0.741; the first one's geometric mean is e^0.1."""


def written_out(name: str, logprobs: torch.Tensor) -> torch.Tensor:
    """The objective of each paper as it prints it, a loop over completions and tokens (float64)."""
    rows = [(row, old_row, a) for row, old_row, a in zip(logprobs.split(LENGTHS), OLD.split(LENGTHS), ADVANTAGES, strict=True)]
    total = torch.tensor(0.0, dtype=torch.float64)
    for row, old_row, a in rows:
        if name == "gspo":  # 1/G sum_i min(s_i A_i, clip(s_i, 1 - 3e-4, 1 + 4e-4) A_i)
            s = torch.exp((row - old_row).mean())
            total = total + torch.minimum(s * a, s.clamp(1 - 3e-4, 1 + 4e-4) * a) / len(rows)
            continue
        for log_pi, log_old in zip(row, old_row, strict=True):
            rho = torch.exp(log_pi - log_old)
            if name == "cispo":  # 1 / sum |o_i| sum sg(min(rho, 5)) A log pi
                total = total + rho.detach().clamp(max=5.0) * a * log_pi / sum(LENGTHS)
            elif name == "dapo":  # 1 / sum |o_i| sum min(rho A, clip(rho, 0.8, 1.28) A)
                total = total + torch.minimum(rho * a, rho.clamp(0.8, 1.28) * a) / sum(LENGTHS)
            elif name == "dr_grpo":  # 1 / (G x 8) sum min(rho A, clip(rho, 0.8, 1.2) A)
                total = total + torch.minimum(rho * a, rho.clamp(0.8, 1.2) * a) / (len(rows) * 8)
            else:  # Eq. 3
                total = total + torch.minimum(rho * a, rho.clamp(0.8, 1.2) * a) / len(row) / len(rows)
    return -total


OLD = torch.tensor([-1.0, -2.0, -0.7, -1.5], dtype=torch.float64)
GAPS = torch.tensor([value for row in LOG_RATIOS for value in row], dtype=torch.float64)
LEAF = (OLD + GAPS).requires_grad_()


def our_loss(config: GRPOConfig, logprobs: torch.Tensor = LEAF) -> torch.Tensor:
    """What `update_policy` sums up, of log-probabilities that are given."""
    advantages = torch.tensor([a for a, n in zip(ADVANTAGES, LENGTHS, strict=True) for _ in range(n)], dtype=logprobs.dtype)
    weights = token_weights(LENGTHS, config.loss_normalisation, 8)
    weights_N = torch.tensor([w for w, n in zip(weights, LENGTHS, strict=True) for _ in range(n)], dtype=logprobs.dtype)
    losses_N = grpo_token_loss(
        logprobs,
        OLD,
        None,
        advantages,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        kl_coef=config.kl_coef,
        surrogate=config.surrogate,
        lengths=LENGTHS if config.ratio == "sequence" else None,
    )
    return (weights_N * losses_N).sum()


def with_fields_of(name: str | None) -> GRPOConfig:
    return GRPOConfig(**({} if name is None else {"preset": name}))


@pytest.mark.parametrize("scale", [1.0, 1e-3, -1.0, 6.0])
@pytest.mark.parametrize("name", [None, *PRESETS])
def test_a_presets_loss_and_gradient_are_those_of_its_papers_formula(name: str | None, scale: float) -> None:
    """Ratios that each range cuts, a thousandth of their logarithms, which none does, the other way round, and beyond 5."""
    logprobs = (OLD + scale * GAPS).requires_grad_()
    ours, theirs = our_loss(with_fields_of(name), logprobs), written_out(name or "paper", logprobs)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, logprobs)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert scale != 1e-3 or bool((gradients[0] != 0).all())


@pytest.mark.parametrize(
    ("name", "gradient"),
    [
        # -weight x rho x A where the gradient is let through. Token 3 is good and beyond 1.2 and 1.28, token 4 bad and below 0.8: cut.
        (None, [-math.exp(0.1) / 6, -math.exp(-0.2) / 6, 0.0, 0.0]),
        ("dapo", [-math.exp(0.1) / 4, -math.exp(-0.2) / 4, 0.0, 0.0]),
        ("dr_grpo", [-math.exp(0.1) / 16, -math.exp(-0.2) / 16, 0.0, 0.0]),
        # e^0.1 is above 1.0004 and good, e^-0.3 below 0.9997 and bad: both sequences are cut.
        ("gspo", [0.0, 0.0, 0.0, 0.0]),
        # Nothing is cut: all ratios are below 5.
        ("cispo", [-math.exp(0.1) / 4, -math.exp(-0.2) / 4, -math.exp(0.4) / 4, 2 * math.exp(-0.3) / 4]),
    ],
)
def test_a_presets_gradient_by_hand(name: str | None, gradient: list[float]) -> None:
    (found,) = torch.autograd.grad(our_loss(with_fields_of(name)), LEAF)
    assert found.tolist() == pytest.approx(gradient)


def test_the_default_loss_is_eq_3_to_the_last_bit() -> None:
    """What the update computed before it had these fields, written out in float32."""
    generator = torch.Generator().manual_seed(3)
    logprobs, old, reference, advantages = (torch.randn(1000, generator=generator) for _ in range(4))
    config, ratio = GRPOConfig(), torch.exp(logprobs - old)
    surrogate = -torch.minimum(ratio * advantages, ratio.clamp(1 - 0.2, 1 + 0.2) * advantages)
    log_ratio = reference - logprobs
    expected = 0.04 * (torch.expm1(log_ratio) - log_ratio) + surrogate
    fields = {"clip_low": config.clip_low, "clip_high": config.clip_high, "kl_coef": config.kl_coef, "surrogate": config.surrogate}
    assert (config.ratio, config.kl, config.tis_mask, config.tis_cap) == ("token", "loss", "none", None)
    assert torch.equal(grpo_token_loss(logprobs, old, reference, advantages, **fields), expected)
    assert token_weights([2, 5], config.loss_normalisation, 1024) == [1 / 4, 1 / 10]


def test_a_sequences_ratio_is_the_geometric_mean_and_each_token_keeps_its_own_advantage() -> None:
    ratios = policy_ratios(LEAF, OLD, LENGTHS)
    assert ratios.tolist() == pytest.approx([math.exp(0.1)] * 3 + [math.exp(-0.3)])
    # GSPO-token (arXiv 2507.18071): the gradient of token t is s A_t, not the mean advantage of its sequence.
    advantages = torch.tensor([1.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((ratios * advantages).sum(), LEAF)
    torch.testing.assert_close(gradient, ratios.detach() * advantages)


def test_an_empty_completion_between_others_has_no_ratio_and_spoils_none() -> None:
    log_ratios = torch.tensor([0.2, 0.4, -0.1])
    assert policy_ratios(log_ratios, torch.zeros(3), [2, 0, 1]).log().tolist() == pytest.approx([0.3, 0.3, -0.1])


def test_tokens_weigh_alike_or_by_the_longest_allowed_completion() -> None:
    assert token_weights([2, 6], "tokens") == [1 / 8, 1 / 8]
    assert token_weights([2, 6], "constant", 10) == [1 / 20, 1 / 20]
    assert token_weights([0, 0], "tokens") == [1.0, 1.0]


@pytest.mark.parametrize(
    ("cap", "mask", "weights"),
    [
        (None, "none", [1.0, 1.0, 1.0, 1.0]),
        (1.5, "none", [0.5, 1.0, 1.5, 0.8]),
        (None, "tokens", [0.0, 1.0, 0.0, 1.0]),  # ratios 0.5, 1, 2, 0.8; bounds 0.6 and 1.9
        (1.5, "tokens", [0.0, 1.0, 0.0, 0.8]),
        (None, "sequences", [1.0, 1.0, 1.0, 1.0]),  # products 0.5 x 1 x 2 = 1 and 0.8
        (3.0, "sequences", [0.5, 1.0, 2.0, 0.8]),
    ],
)
def test_what_the_engine_sampled_otherwise_weighs_less_or_is_dropped(cap: float | None, mask: str, weights: list[float]) -> None:
    ratios = torch.tensor([0.5, 1.0, 2.0, 0.8])
    found = engine_weights(ratios.log(), torch.zeros(4), [3, 1], cap, mask, (0.6, 1.9))  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx(weights)


def test_a_sequence_out_of_bounds_is_dropped_whole_and_alone() -> None:
    ratios = torch.tensor([1.4, 1.4, 1.0, 0.8])  # 1.96 and 0.8
    assert engine_weights(ratios.log(), torch.zeros(4), [3, 1], None, "sequences", (0.6, 1.9)).tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_token_that_the_engine_thought_impossible_is_dropped_and_makes_no_nan(sign: float) -> None:
    weights = engine_weights(torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -1.0 - sign * 200.0]), [1, 1], None, "tokens", (0.5, 5.0))
    assert weights.tolist() == [1.0, 0.0]


def test_batch_std_divides_all_groups_by_the_spread_of_all_rewards() -> None:
    # Rewards 1, 0 and 0.6, 0.4: centred +-0.5 and +-0.1, the std of all four is sqrt(0.13).
    rewards_B, lengths_B = torch.tensor([1.0, 0.0, 0.6, 0.4]), torch.ones(4, dtype=torch.long)
    found = outcome_advantages(rewards_B, lengths_B, 2, "batch_std")[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5, 0.1, -0.1]) / math.sqrt(0.13))
    # Padding of ragged steps is not a reward.
    ends = torch.tensor([[0, -1], [0, -1], [0, -1], [0, -1]])
    padded = torch.stack([rewards_B, torch.full((4,), 9.0)], dim=1)
    torch.testing.assert_close(process_advantages(padded, ends, lengths_B, 2, "batch_std")[:, 0], found)


def test_without_normalisation_rewards_are_only_centred() -> None:
    rewards_B, lengths_B = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.ones(4, dtype=torch.long)
    advantages_BT = outcome_advantages(rewards_B, lengths_B, 4, "none", min_spread=9.0)
    torch.testing.assert_close(advantages_BT[:, 0], torch.tensor([0.75, -0.25, -0.25, -0.25]))


def test_kl_in_the_reward_is_taken_from_what_scores_its_tokens() -> None:
    ratios = [torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([-1.0])]
    ends, by_step, whole = [[1, 3], [0]], [[0.5, 0.9], [1.0]], [[0.9], [1.0]]
    assert [pytest.approx(row) for row in rewards_less_kl(ends, by_step, ratios, 0.5)] == [[0.5 - 0.15, 0.9 - 0.35], [1.5]]
    assert [pytest.approx(row) for row in rewards_less_kl(ends, whole, ratios, 0.5)] == [[0.9 - 0.5], [1.5]]


@pytest.mark.parametrize(
    ("advantage", "kl", "place"),
    [
        ("group", "loss", "loss"),
        ("group", "reward", "reward"),
        ("group", "none", "none"),
        ("gae", "loss", "reward"),
        ("gae", "none", "none"),
    ]
    + [(other, "loss", "none") for other in ("constant", "reward", "preference")],
)
def test_where_the_kl_term_is(advantage: str, kl: str, place: str) -> None:
    assert GRPOConfig(paradigm={"advantage": advantage}, kl=kl).kl_place == place


PROMPTS, COMPLETIONS = [[5, 6, 7]] * 2, [[20, 21, 22], [30]]


def gradient_of_update(changes: dict, rollout_logprobs: list[list[float]] | None = None) -> torch.Tensor:
    """The gradient that one update takes: weights before less weights after plain descent with rate 1."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    before = torch.cat([weights.detach().flatten().clone() for weights in policy.parameters()])
    config = GRPOConfig(precision="float32", optimizer=OptimizerConfig(grad_clip=1e9), rollout=RolloutConfig(max_tokens=8), **changes)
    experience = Experience(PROMPTS, COMPLETIONS, torch.tensor([[1.0, 1.0, 1.0], [-2.0, 0.0, 0.0]]), rollout_logprobs)
    update_policy(policy, reference, torch.optim.SGD(policy.parameters(), lr=1.0), experience, config)
    return before - torch.cat([weights.detach().flatten() for weights in policy.parameters()])


def gradient_written_out(weights: list[list[float]], kl: bool) -> torch.Tensor:
    """-sum of weight x (advantage + KL coefficient) x grad log pi."""
    policy, reference = tiny_policy(0), tiny_policy(1)
    config = GRPOConfig(precision="float32")
    frozen = sequence_logprobs(reference, PROMPTS, COMPLETIONS, config)
    objective = torch.tensor(0.0)
    for prompt, completion, row, advantage, reference_T in zip(PROMPTS, COMPLETIONS, weights, [1.0, -2.0], frozen, strict=True):
        logits_TV = policy(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        logprobs_T = logits_TV.log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)]
        penalty_T = 0.04 * (torch.exp(reference_T - logprobs_T.detach()) - 1) if kl else 0.0
        objective = objective + (torch.tensor(row) * (advantage + penalty_T) * logprobs_T).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(-objective, list(policy.parameters()))])


def test_departures_are_off_by_default() -> None:
    torch.testing.assert_close(gradient_of_update({}), gradient_written_out([[1 / 6] * 3, [1 / 2]], kl=True), rtol=1e-3, atol=1e-5)


def test_dapo_takes_the_token_mean_without_kl() -> None:
    expected = gradient_written_out([[1 / 4] * 3, [1 / 4]], kl=False)
    torch.testing.assert_close(gradient_of_update({"preset": "dapo"}), expected, rtol=1e-3, atol=1e-5)


def test_dr_grpo_does_not_divide_by_a_completions_length() -> None:
    expected = gradient_written_out([[1 / 16] * 3, [1 / 16]], kl=False)
    torch.testing.assert_close(gradient_of_update({"preset": "dr_grpo"}), expected, rtol=1e-3, atol=1e-5)


def test_importance_sampling_weighs_tokens_by_trainer_over_engine_up_to_the_cap() -> None:
    own = [row.tolist() for row in sequence_logprobs(tiny_policy(0), PROMPTS, COMPLETIONS, GRPOConfig(precision="float32"))]
    # The engine found completion 1's tokens e times likelier than the trainer does, and completion 2's token e times rarer.
    engine = [[value + 1 for value in own[0]], [value - 1 for value in own[1]]]
    expected = gradient_written_out([[0.36787944 / 6] * 3, [1.5 / 2]], kl=False)
    torch.testing.assert_close(gradient_of_update({"tis_cap": 1.5, "kl_coef": 0.0}, engine), expected, rtol=1e-3, atol=1e-5)


def test_dropped_tokens_and_sequences_have_no_gradient_and_are_counted() -> None:
    own = [row.tolist() for row in sequence_logprobs(tiny_policy(0), PROMPTS, COMPLETIONS, GRPOConfig(precision="float32"))]
    engine = [[own[0][0], own[0][1] - 1, own[0][2]], [own[1][0] + 0.1]]  # ratios 1, e, 1 and 0.9; bounds 0.5 and 2
    settings = {"kl": "none", "tis_high": 2.0}
    for mask, weights, dropped in (("tokens", [1 / 6, 0.0, 1 / 6], 1 / 4), ("sequences", [0.0, 0.0, 0.0], 3 / 4)):
        expected = gradient_written_out([weights, [1 / 2]], kl=False)
        torch.testing.assert_close(gradient_of_update({**settings, "tis_mask": mask}, engine), expected, rtol=1e-3, atol=1e-5)
        config = GRPOConfig(precision="float32", tis_mask=mask, **settings)
        experience, policy = Experience(PROMPTS, COMPLETIONS, torch.ones(2, 3), engine), tiny_policy(0)
        metrics = update_policy(policy, tiny_policy(1), torch.optim.SGD(policy.parameters()), experience, config)
        assert metrics["mismatch_dropped"] == pytest.approx(dropped)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_nothing_but_its_fields(name: str) -> None:
    config = GRPOConfig(preset=name)
    assert config == GRPOConfig(**PRESETS[name])
    assert config.identity() == GRPOConfig(**PRESETS[name]).identity()
    assert {field for field in GRPOConfig.model_fields if getattr(config, field) != getattr(GRPOConfig(), field)} <= PRESETS[name].keys()
    assert GRPOConfig.model_validate(config.model_dump()) == config


def test_a_field_beside_a_preset_may_repeat_it_or_say_something_else() -> None:
    config = GRPOConfig(preset="dapo", clip_high=0.28, steps=3, ratio="sequence")
    assert (config.clip_high, config.steps, config.ratio, config.loss_normalisation) == (0.28, 3, "sequence", "tokens")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"preset": "dapo", "kl": "loss"}, "preset `dapo` has kl = 'none', but you set 'loss'"),
        (
            {"preset": "gspo", "clip_low": 0.2, "ratio": "token"},
            "ratio = 'sequence', but you set 'token'; clip_low = 0.0003, but you set 0.2",
        ),
        ({"preset": "ppo"}, "known presets are dapo, dr_grpo, gspo, cispo"),
        ({"preset": ["dapo"]}, "known presets"),
        ({"preset": {"dapo": 1}}, "known presets"),
        ({"preset": None}, "known presets"),
    ],
)
def test_a_field_that_contradicts_its_preset_and_an_unknown_preset_are_refused(section: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("'", ".")):
        GRPOConfig(**section)


def test_recipes_take_presets_and_record_their_fields() -> None:
    recipe = load_recipe("tiny", ["grpo.preset=dapo"])
    assert (recipe.grpo.clip_high, recipe.grpo.kl, recipe.grpo.prompts_per_step) == (0.28, "none", 32)
    recorded = recipe.recorded()
    assert "preset" not in recorded["grpo"]
    assert override_recipe(recorded, ["grpo.preset=dapo"]).grpo == recipe.grpo
    with pytest.raises(MathQuarryError, match="grpo: .*preset `cispo` has surrogate = 'cispo', but you set 'clip'"):
        override_recipe(recorded, ["grpo.preset=cispo"])
