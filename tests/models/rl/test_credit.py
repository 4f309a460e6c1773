"""Credit of steps, small spreads, and the metrics that show when advantages carry no information about completions."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.reward.model import RewardModel
from mathquarry.models.rl.advantage_metrics import measure_advantages
from mathquarry.models.rl.advantages import outcome_advantages, pad_steps, process_advantages
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.paradigm import coefficients
from tests.models.rl.tiny import scored, tiny_policy, tiny_reward_model, tiny_tokenizer

STEPS = pad_steps([[0.9, 0.2, 0.6], [0.5, 0.7]], 0.0)
ENDS = pad_steps([[1, 2, 4], [0, 2]], -1)
LENGTHS_B = torch.tensor([5, 3])


def test_min_credit_is_the_least_of_the_rewards_to_come_normalised_by_hand() -> None:
    # Values of steps: 0.2, 0.2, 0.6 and 0.5, 0.7. Mean 0.44; deviations -0.24, -0.24, 0.16, 0.06, 0.26; their squares sum to 0.212.
    std = math.sqrt(0.212 / 5)
    expected = torch.tensor([[-0.24, -0.24, -0.24, 0.16, 0.16], [0.06, 0.26, 0.26, 0.0, 0.0]]) / std
    torch.testing.assert_close(process_advantages(STEPS, ENDS, LENGTHS_B, 2, credit="min"), expected)
    torch.testing.assert_close(process_advantages(STEPS, ENDS, LENGTHS_B, 2, "none", credit="min"), expected * std)


def test_min_credit_equals_the_definition_written_as_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    ends = [[2, 5], [0], [1, 2, 3], [4], [0, 1], [3, 6]]
    rewards = [torch.rand(len(row), generator=generator).tolist() for row in ends]
    lengths = [row[-1] + 1 for row in ends]
    found_BT = process_advantages(pad_steps(rewards, 0.0), pad_steps(ends, -1), torch.tensor(lengths), 3, credit="min")
    for start in (0, 3):
        values = [[min(row[step:]) for step in range(len(row))] for row in rewards[start : start + 3]]
        everything = torch.tensor([value for row in values for value in row])
        for row in range(start, start + 3):
            for t in range(lengths[row]):
                to_come = [reward for reward, end in zip(rewards[row], ends[row], strict=True) if end >= t]
                expected = (min(to_come) - everything.mean()) / everything.std(unbiased=False)
                assert float(found_BT[row, t]) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("credit", ["sum", "min"])
def test_with_one_step_a_completion_every_credit_is_the_outcomes(credit: str) -> None:
    rewards_B, lengths_B = torch.rand(12), torch.randint(1, 7, (12,))
    process_BT = process_advantages(rewards_B[:, None], (lengths_B - 1)[:, None], lengths_B, 4, credit=credit)  # type: ignore[arg-type]
    torch.testing.assert_close(process_BT, outcome_advantages(rewards_B, lengths_B, 4))


@pytest.mark.parametrize(("credit", "ratio"), [("sum", 3.0), ("min", 1.0)])
def test_nine_equal_steps_weigh_three_times_three_under_the_sum_and_as_much_under_min(credit: str, ratio: float) -> None:
    """Two right completions of nine and three steps, and a wrong one; at their first tokens."""
    rewards, ends = [[1.0] * 9, [1.0] * 3, [0.0] * 6], [list(range(9)), list(range(3)), list(range(6))]
    config = GRPOConfig(credit=credit)
    rollouts = scored([[1]] * 3, [[5] * 9, [5] * 3, [5] * 6], ends, rewards, 3)
    advantages_BT, _ = coefficients(rollouts, config, tiny_policy(0), tiny_policy(0), None)
    assert float(advantages_BT[0, 0] / advantages_BT[1, 0]) == pytest.approx(ratio)
    slope = measure_advantages(advantages_BT, [9, 3, 6], [True, True, False], [9, 3, 6], 3)["advantage_per_step"]
    # Under the sum the means over tokens are 5 z and 2 z: z / 2 for each of six steps.
    assert slope == pytest.approx((float(advantages_BT[1, 0]) / 3) / 2 if credit == "sum" else 0.0, abs=1e-6)


def test_a_completion_without_steps_has_no_advantage_under_min_either() -> None:
    found_BT = process_advantages(
        pad_steps([[], [1.0], [0.0]], 0.0), pad_steps([[], [1], [0]], -1), torch.tensor([0, 2, 1]), 3, credit="min"
    )
    torch.testing.assert_close(found_BT, torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]))


TOKENIZER = tiny_tokenizer()


def steps_of(text: str) -> list[str]:
    completion = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    starts = [0, *(end + 1 for end in StepMarker(TOKENIZER).ends(completion))]
    return [TOKENIZER.decode(completion[a:b]).strip() for a, b in pairwise(starts)]


@pytest.mark.parametrize(
    "text",
    ["a=1\n\nb=2", "a=1\n \nb=2", "a=1\n\t\n\n  \nb=2\n\n", "\n\na=1\nb=2", "a=1\r\n\r\nb=2\r\n", "  \n \na=1\n\n\n\nb=2\n \n"],
)
def test_blank_lines_are_no_steps(text: str) -> None:
    assert steps_of(text) == ["a=1", "b=2"]


def test_a_spread_below_the_least_makes_small_advantages_and_one_above_it_changes_nothing() -> None:
    rewards_B, lengths_B = torch.tensor([0.5, 0.5001, 0.2, 0.8]), torch.ones(4, dtype=torch.long)
    full_B, floored_B = (outcome_advantages(rewards_B, lengths_B, 2, min_spread=least)[:, 0] for least in (0.0, 0.05))
    assert full_B.tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-3)
    assert floored_B.tolist() == pytest.approx([-0.001, 0.001, -1, 1], abs=1e-4)
    process_B = process_advantages(rewards_B[:, None], torch.zeros(4, 1, dtype=torch.long), lengths_B, 2, min_spread=0.05)[:, 0]
    torch.testing.assert_close(process_B, floored_B)


def test_the_least_spread_is_also_that_of_the_batch() -> None:
    rewards_B, lengths_B = torch.tensor([0.5, 0.5001, 0.5, 0.5001]), torch.ones(4, dtype=torch.long)
    found_B = outcome_advantages(rewards_B, lengths_B, 2, "batch_std", min_spread=0.05)[:, 0]
    assert found_B.abs().tolist() == pytest.approx([0.001] * 4, abs=1e-5)


def test_advantage_mass_of_one_verdict_is_that_of_groups_all_right_or_all_wrong() -> None:
    advantages_BT = torch.tensor([[1.0, 1.0], [-1.0, 9.0], [0.5, 0.0], [-0.5, 9.0], [2.0, 9.0], [-2.0, 9.0]])
    # Lengths 2, 1, 2, 1, 1, 1: the 9s lie beyond the ends. Groups: mixed with 3, all wrong with 1, all right with 4.
    found = measure_advantages(advantages_BT, [2, 1, 2, 1, 1, 1], [True, False, False, False, True, True], [1] * 6, 2)
    assert found == {"advantage_one_verdict": pytest.approx(5 / 8), "advantage_per_step": None}
    nothing = measure_advantages(torch.zeros(2, 1), [1, 1], [True, False], [1, 2], 2)
    assert nothing == {"advantage_one_verdict": None, "advantage_per_step": None}


def test_steps_are_compared_among_completions_of_one_question_and_verdict() -> None:
    """A right completion of many steps beside a wrong one of few says nothing about steps."""
    means, correct, steps = (
        [2.0, 1.0, -1.0, -1.0, 5.0, 5.0, 5.0, -5.0],
        [True, True, False, False, True, True, True, False],
        [5, 3, 1, 2, 9, 9, 9, 1],
    )
    found = measure_advantages(torch.tensor(means)[:, None], [1] * 8, correct, steps, 4)["advantage_per_step"]
    # Right completions of group 1: steps +-1, means +-0.5; wrong ones: steps +-0.5, means 0; group 2 has no spread of steps.
    assert found == pytest.approx((0.5 + 0.5) / (1 + 1 + 0.25 + 0.25))


def test_bfloat16_leaves_a_group_its_different_scores() -> None:
    """At logits near 6, where bfloat16 has steps of 1/32: scores by a head in it would be a dozen values, and their order lost."""
    model = tiny_reward_model(3)
    with torch.no_grad():
        model.score.weight.mul_(0.05)
        model.score.bias.fill_(6.0)
    generator = torch.Generator().manual_seed(0)
    completions = [torch.randint(3, 300, (5,), generator=generator).tolist() for _ in range(64)]
    exact, rough = (
        [row[0] for row in RewardModel(model, 10_000, precision).score([[5, 6]] * 64, completions, [[4]] * 64)]  # type: ignore[arg-type]
        for precision in ("float32", "bfloat16")
    )
    assert len(set(exact)) == 64
    assert len(set(rough)) > 60
    logits = torch.tensor(exact).logit()
    assert len(set(logits.bfloat16().tolist())) < 24
    assert float(torch.corrcoef(torch.stack([torch.tensor(exact), torch.tensor(rough)]))[0, 1]) > 0.99
