"""Advantages against tables worked out by hand (paper sections 4.1.2 and 4.1.3)."""

from __future__ import annotations

import math

import pytest
import torch

from mathquarry.models.rl.advantages import outcome_advantages, pad_steps, process_advantages


def test_outcome_advantage_is_the_normalised_reward_at_every_token() -> None:
    # Rewards 3, 1, 2: mean 2, variance (1 + 1 + 0) / 3.
    a = 1 / math.sqrt(2 / 3)
    advantages_BT = outcome_advantages(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([2, 4, 3]), group_size=3)
    expected = [[a, a, 0, 0], [-a, -a, -a, -a], [0, 0, 0, 0]]
    torch.testing.assert_close(advantages_BT, torch.tensor(expected))


def test_process_advantage_sums_rewards_of_steps_that_end_at_or_after_t() -> None:
    # Completion 1: six tokens, steps ending at 1, 2, 5 with rewards 0.9, 0.6, 0.3. Completion 2: three tokens, one step with reward 0.2.
    # All four: mean 0.5, deviations 0.4, 0.1, -0.2, -0.3, variance (0.16 + 0.01 + 0.04 + 0.09) / 4 = 0.075.
    std = math.sqrt(0.075)
    advantages_BT = process_advantages(
        pad_steps([[0.9, 0.6, 0.3], [0.2]], 0.0), pad_steps([[1, 2, 5], [2]], -1), torch.tensor([6, 3]), group_size=2
    )
    expected = torch.tensor([[0.3, 0.3, -0.1, -0.2, -0.2, -0.2], [-0.3, -0.3, -0.3, 0, 0, 0]]) / std
    torch.testing.assert_close(advantages_BT, expected)


def test_process_supervision_normalises_over_steps_not_over_completions() -> None:
    # Steps 1, 1, 1 and 0: mean 3/4, std sqrt(3)/4. The mean of the completions' means would be 1/2.
    advantages_BT = process_advantages(
        pad_steps([[1, 1, 1], [0]], 0.0), pad_steps([[0, 1, 2], [0]], -1), torch.tensor([3, 1]), group_size=2
    )
    z = 0.25 / (math.sqrt(3) / 4)
    torch.testing.assert_close(advantages_BT, torch.tensor([[3 * z, 2 * z, z], [-3 * z, 0, 0]]))


def test_with_one_step_an_output_both_supervisions_agree() -> None:
    rewards_B, lengths_B = torch.rand(12), torch.randint(1, 7, (12,))
    process_BT = process_advantages(rewards_B[:, None], (lengths_B - 1)[:, None], lengths_B, group_size=4)
    torch.testing.assert_close(process_BT, outcome_advantages(rewards_B, lengths_B, group_size=4))


def test_groups_do_not_see_each_other() -> None:
    rewards_BS, ends_BS, lengths_B = (
        pad_steps([[0.1, 0.9], [0.4], [7.0], [9.0]], 0.0),
        pad_steps([[0, 2], [1], [0], [1]], -1),
        torch.tensor([3, 2, 1, 2]),
    )
    together_BT = process_advantages(rewards_BS, ends_BS, lengths_B, group_size=2)
    first_BT = process_advantages(rewards_BS[:2], ends_BS[:2], lengths_B[:2], group_size=2)
    torch.testing.assert_close(together_BT[:2], first_BT)
    torch.testing.assert_close(together_BT[2:], torch.tensor([[-1.0, 0, 0], [1.0, 1.0, 0]]))


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, 1 / 3])
def test_a_group_without_spread_has_no_advantage(reward: float) -> None:
    rewards_B, lengths_B = torch.full((7,), reward), torch.arange(1, 8)
    assert outcome_advantages(rewards_B, lengths_B, group_size=7).eq(0).all()
    assert process_advantages(rewards_B[:, None], (lengths_B - 1)[:, None], lengths_B, group_size=7).eq(0).all()


def test_rounding_errors_are_not_blown_up_to_advantages() -> None:
    rewards_B = torch.tensor([0.7, 0.7 + 6e-8, 0.7])
    assert outcome_advantages(rewards_B, torch.tensor([1, 1, 1]), group_size=3).eq(0).all()


def test_normalised_rewards_of_a_group_have_mean_0_and_variance_1() -> None:
    advantages_B = outcome_advantages(torch.rand(64), torch.ones(64, dtype=torch.long), group_size=64)[:, 0]
    assert float(advantages_B.mean()) == pytest.approx(0, abs=1e-6)
    assert float(advantages_B.var(unbiased=False)) == pytest.approx(1, rel=1e-5)


def test_process_advantages_equal_the_definition_written_as_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    ends = [[2, 5], [0], [1, 2, 3], [4], [0, 1], [3, 6]]
    rewards = [torch.rand(len(row), generator=generator).tolist() for row in ends]
    lengths = [row[-1] + 1 for row in ends]
    advantages_BT = process_advantages(pad_steps(rewards, 0.0), pad_steps(ends, -1), torch.tensor(lengths), group_size=3)
    for start in (0, 3):
        everything = torch.tensor([reward for row in rewards[start : start + 3] for reward in row])
        mean, std = everything.mean(), everything.std(unbiased=False)
        for row in range(start, start + 3):
            for t in range(lengths[row]):
                expected = sum((reward - mean) / std for reward, end in zip(rewards[row], ends[row], strict=True) if end >= t)
                assert float(advantages_BT[row, t]) == pytest.approx(float(expected), abs=1e-5)


def test_a_truncated_completion_is_scored_at_its_last_token_like_any_other() -> None:
    # Completion 1 was cut in the middle of its second step, after token 3; completion 2 ended by itself. Rewards 0.5, 0.1 and 0.9:
    # mean 0.5, deviations 0, -0.4, 0.4, variance 0.32 / 3.
    std = math.sqrt(0.32 / 3)
    advantages_BT = process_advantages(pad_steps([[0.5, 0.1], [0.9]], 0.0), pad_steps([[1, 3], [2]], -1), torch.tensor([4, 3]), 2)
    expected = torch.tensor([[-0.4, -0.4, -0.4, -0.4], [0.4, 0.4, 0.4, 0]]) / std
    torch.testing.assert_close(advantages_BT, expected)


def test_an_output_without_steps_has_no_advantage() -> None:
    # Cut before its first token: no step, no token. The others are normalised among themselves: 1 and 0, mean 1/2, std 1/2.
    advantages_BT = process_advantages(pad_steps([[], [1.0], [0.0]], 0.0), pad_steps([[], [1], [0]], -1), torch.tensor([0, 2, 1]), 3)
    torch.testing.assert_close(advantages_BT, torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]))


def test_without_std_process_advantages_are_the_centred_sums() -> None:
    # The table of the second test above, its four steps less their mean 0.5, and nothing else.
    advantages_BT = process_advantages(
        pad_steps([[0.9, 0.6, 0.3], [0.2]], 0.0), pad_steps([[1, 2, 5], [2]], -1), torch.tensor([6, 3]), group_size=2, normalisation="none"
    )
    expected = torch.tensor([[0.3, 0.3, -0.1, -0.2, -0.2, -0.2], [-0.3, -0.3, -0.3, 0, 0, 0]])
    torch.testing.assert_close(advantages_BT, expected)


def test_no_completions_make_a_table_without_rows_and_columns() -> None:
    assert pad_steps([], 0.0).shape == (0, 0)
    nothing = torch.tensor([])
    assert outcome_advantages(nothing, nothing.long(), group_size=2).shape == (0, 0)
