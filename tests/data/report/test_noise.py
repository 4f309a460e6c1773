"""When a difference or a trend counts as more than noise."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from mathquarry.data.report.page.noise import CHANCE, Trend, beyond, flips_agree, seeds_agree, student
from mathquarry.data.report.sections.paired import Difference


@pytest.mark.parametrize(("value", "error", "expected"), [(0.04, 0.02, True), (-0.04, 0.02, True), (0.039, 0.02, False)])
def test_a_difference_counts_from_two_standard_errors_on(value: float, error: float, expected: bool) -> None:
    assert beyond(value, error) is expected


def test_a_difference_without_an_error_or_with_none_to_tell_never_counts() -> None:
    assert not beyond(0.5, None)
    assert not beyond(0.5, 0.0)


def test_gained_and_lost_answers_have_to_be_unlike_a_fair_coin() -> None:
    # Two-sided: 2 / 2^5 = 0.0625, 2 / 2^6 = 0.03125; 10 of 11 is 0.0117, 8 of 11 is 0.2266.
    assert [flips_agree(gained, 0) for gained in (0, 5, 6)] == [False, False, True]
    assert (flips_agree(10, 1), flips_agree(1, 10), flips_agree(8, 3)) == (True, True, False)


def test_answers_that_flip_have_to_agree_with_the_standard_error_too() -> None:
    assert Difference(0.09, 0.02, 100, 10, 1).clear
    assert not Difference(0.03, 0.02, 100, 10, 1).clear
    assert not Difference(0.09, 0.02, 100, 8, 3).clear
    assert Difference(0.09, 0.02, 100).clear, "of scores without single answers the standard error alone tells"


def test_a_trend_is_the_line_of_least_squares() -> None:
    # By hand: means 2.5 and 0.75, slope 1.9 / 5, intercept -0.2; residuals -0.18, 0.44, -0.34, 0.08.
    trend = Trend.of([1, 2, 3, 4], [0.0, 1.0, 0.6, 1.4])
    assert trend is not None
    assert (trend.first, trend.last) == (pytest.approx(0.18), pytest.approx(1.32))
    assert trend.error == pytest.approx(3 * math.sqrt((0.18**2 + 0.44**2 + 0.34**2 + 0.08**2) / 2 / 5))


def test_few_steps_need_more_than_two_standard_errors() -> None:
    trend = Trend.of([1, 2, 3, 4], [0.0, 1.0, 0.6, 1.4])
    assert trend is not None
    assert trend.error is not None
    assert trend.change > 2 * trend.error
    assert not trend.clear, "with two degrees of freedom, 2.04 standard errors are p = 0.18"
    steady = Trend.of(range(1, 9), [0.1 * step + 0.02 * (-1) ** step for step in range(1, 9)])
    assert steady is not None
    assert steady.clear


def test_noise_alone_seldom_is_a_trend() -> None:
    source = random.Random(0)
    found = [Trend.of(range(10), [source.gauss(0.5, 0.1) for _ in range(10)]) for _ in range(1000)]
    assert sum(trend.clear for trend in found if trend) / 1000 == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("values", [[], [0.5], [math.nan, 0.5], [math.inf, math.nan, 0.3]])
def test_fewer_than_two_numbers_are_no_trend(values: list[float]) -> None:
    assert Trend.of(range(len(values)), values) is None


def test_two_steps_and_a_constant_have_no_clear_trend() -> None:
    pair, constant = Trend.of([1, 2], [0.1, 0.9]), Trend.of(range(9), [0.5] * 9)
    assert pair is not None
    assert constant is not None
    assert (pair.error, pair.clear, constant.clear) == (None, False, False)


def test_chances_are_those_of_scipy() -> None:
    for freedom in (*range(1, 40), 99, 100, 1001):
        for t in (0.0, -0.3, 1.0, 1.96, -2.6, 12.7, 1e3):
            assert student(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-12)
    for flips in range(1, 40):
        for gained in range(flips + 1):
            assert flips_agree(gained, flips - gained) == (stats.binomtest(gained, flips).pvalue < CHANCE)
    source = random.Random(1)
    for length in range(3, 60):
        steps, values = range(length), [source.gauss(0.02 * step, 0.3) for step in range(length)]
        line, trend = stats.linregress(steps, values), Trend.of(steps, values)
        assert trend is not None
        assert (trend.first, trend.error) == (pytest.approx(line.intercept), pytest.approx(line.stderr * (length - 1)))
        assert trend.clear == (line.pvalue < CHANCE and abs(trend.change) >= 2 * line.stderr * (length - 1))
        assert seeds_agree(values) == (stats.ttest_1samp(values, 0.0).pvalue < CHANCE)


def test_many_answers_that_flip_are_counted_exactly() -> None:
    assert flips_agree(5_200, 4_800)
    assert not flips_agree(5_050, 4_950)


def test_a_constant_whose_mean_is_rounded_has_no_trend() -> None:
    trend = Trend.of(range(9), [0.1] * 9)
    assert trend is not None
    assert (trend.error, trend.clear) == (0.0, False)
