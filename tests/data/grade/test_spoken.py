"""Numbers in words, English and Chinese."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mathquarry.data.grade.reading.spoken import fractions_in_digits, spoken


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("twenty-one", 21),
        ("one hundred twenty-three thousand four hundred fifty-six", 123456),
        ("a hundred and one", 101),
        ("two dozen", 24),
        ("half a dozen", 6),
        ("two thirds", Fraction(2, 3)),
        ("two and a half", Fraction(5, 2)),
        ("seven and three eighths", Fraction(59, 8)),
        ("negative five", -5),
        ("minus one half", Fraction(-1, 2)),
        ("三十五", 35),
        ("一万零三", 10003),
        ("两千", 2000),
        ("二〇二四", 2024),
        ("亿", 10**8),
    ],
)
def test_numbers_in_words_have_their_value(text: str, value: Fraction | int) -> None:
    assert spoken(text) == value


@pytest.mark.parametrize(
    "text", ["", "five six", "twenty twelve", "third", "and", "two and", "a", "negative", "second", "yes", "三百五", "三角形", "five " * 30]
)
def test_what_is_no_number_or_could_be_two_has_none(text: str) -> None:
    assert spoken(text) is None


def test_chinese_fractions_are_put_in_digits_wherever_they_stand() -> None:
    assert fractions_in_digits("2又三分之一") == "2又3分之1"
    assert fractions_in_digits("二十五分之十二米") == "25分之12米"
    assert fractions_in_digits("部分之一") == "部分之一"
