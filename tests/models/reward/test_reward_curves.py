"""Calibration and best-of-N of a reward model's scores."""

from __future__ import annotations

from itertools import combinations

import pytest

from mathquarry.models.reward.curves import best_of_n, calibration_curve, calibration_error, powers_of_two


def test_calibration_compares_scores_with_the_share_that_is_right() -> None:
    curve = calibration_curve([0.05, 0.15, 0.18, 0.95, 1.0], [False, False, True, True, True])
    assert [point["count"] for point in curve] == [1, 2, 2]
    assert [point["right"] for point in curve] == [0.0, 0.5, 1.0]
    assert [point["score"] for point in curve] == pytest.approx([0.05, 0.165, 0.975])
    assert calibration_error(curve) == pytest.approx((0.05 + 2 * 0.335 + 2 * 0.025) / 5)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_is_the_mean_over_all_choices(n: int) -> None:
    scores, right = [0.9, 0.2, 0.5, 0.7, 0.1], [False, True, True, True, False]
    chosen = [max(choice, key=lambda place: scores[place]) for choice in combinations(range(5), n)]
    assert best_of_n([scores], [right], n) == pytest.approx(sum(right[place] for place in chosen) / len(chosen))


def test_equal_scores_are_as_good_as_a_random_choice() -> None:
    assert best_of_n([[0.5, 0.5, 0.5, 0.5]], [[True, False, False, False]], 4) == pytest.approx(0.25)


def test_questions_with_too_few_solutions_are_left_out() -> None:
    assert best_of_n([[0.9, 0.1], [0.3]], [[True, False], [False]], 2) == 1.0
    assert best_of_n([[0.9]], [[True]], 2) is None


def test_n_goes_through_the_powers_of_two_and_ends_at_n() -> None:
    assert [powers_of_two(n) for n in (1, 6, 8)] == [[1], [1, 2, 4, 6], [1, 2, 4, 8]]
