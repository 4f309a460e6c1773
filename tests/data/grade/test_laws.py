"""Laws for any two answers: symmetry, harmless rewrites, no exception, and bounded work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathquarry.data.grade.compare import compare
from mathquarry.data.grade.reading.notation import MAX_CHARACTERS
from tests.data.grade import harmful, harmless

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


def _sum(parts: list[str]) -> str:
    return "+".join(parts).replace("+-", "-")


integers = st.integers(-30, 30).map(str)
leaves = st.one_of(
    integers,
    st.sampled_from(["x", "y", "n", r"\pi", r"\sqrt{2}", r"\sqrt{7}"]),
    st.tuples(st.integers(1, 20), st.integers(2, 20)).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(_sum),
        st.tuples(inner, st.integers(2, 3)).map(lambda pair: f"({pair[0]})^{pair[1]}"),
        st.tuples(inner, inner).map(lambda pair: rf"({pair[0]})({pair[1]})"),
        st.tuples(inner, st.integers(2, 9)).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
    ),
    max_leaves=5,
)
numbers = st.one_of(
    integers,
    st.integers(1000, 10**9).map(str),
    st.tuples(st.integers(-99, 99), st.integers(2, 99)).map(
        lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}".replace(r"\frac{-", r"-\frac{")
    ),
)
words = st.sampled_from([r"\text{Evelyn}", r"\text{dog bites man}", r"\text{odd}", "Saturday", "(B)"])
compounds = st.one_of(
    st.lists(integers, min_size=2, max_size=4).map(lambda parts: f"({', '.join(parts)})"),
    st.lists(integers, min_size=2, max_size=4).map(", ".join),
    st.tuples(st.integers(-9, 0), st.integers(1, 9), st.sampled_from(["()", "[]", "[)", "(]"])).map(
        lambda p: f"{p[2][0]}{p[0]},{p[1]}{p[2][1]}"
    ),
    st.lists(st.lists(integers, min_size=2, max_size=2), min_size=2, max_size=3).map(
        lambda rows: r"\begin{pmatrix} " + r" \\ ".join(" & ".join(row) for row in rows) + r" \end{pmatrix}"
    ),
)
answers = st.one_of(numbers, expressions, words, compounds)
NOTATION = r"""
\\ \frac \sqrt \text{ \left \right) \begin{pmatrix} \end{pmatrix} \pi \le \cup \{ \} \pm \overline \boxed{ ^\circ \infty \binom \log_ \sin
\mathrm{
\$ mod and or 1e9 999999999999999999999 分之 又 或 三 元 ² √ ½ … 𝟘 10^{ ! \int \ne x\in ]0,1[ 答案是 half USD
"""
fragments = st.sampled_from([*"0123456789xyniabABCm+-*/^_=<>()[]{}|!,.;:%&~'\" \\$\x00", *NOTATION.split()])


def equal(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same; None if that is left to algebra."""
    outcome = compare(gold, answer)
    return None if outcome is None else outcome.equal


@SETTINGS
@given(answers)
def test_an_answer_equals_itself(answer: str) -> None:
    assert equal(answer, answer) is True


@SETTINGS
@given(answers, answers)
def test_two_exact_answers_are_judged_alike_both_ways_round(one: str, other: str) -> None:
    assert equal(one, other) == equal(other, one)


@SETTINGS
@given(st.one_of(numbers, words, compounds), st.data())
def test_a_harmless_spelling_never_changes_a_verdict(gold: str, data: st.DataObject) -> None:
    spelling = data.draw(st.sampled_from(sorted(harmless.spellings(gold).values())))
    assert equal(gold, spelling) is True, spelling
    wrong = data.draw(st.sampled_from(sorted(harmful.spellings(gold).values())))
    assert equal(gold, wrong) is not True, wrong
    assert equal(spelling, wrong) is not True, (spelling, wrong)


@SETTINGS
@given(expressions, st.integers(-5, 5).filter(bool))
def test_an_expression_equals_itself_rearranged_and_not_itself_shifted(expression: str, shift: int) -> None:
    assert equal(expression, f"({expression})+({shift})-({shift})") is True
    assert equal(expression, rf"\frac{{{shift}\left({expression}\right)}}{{{shift}}}") is True
    assert equal(expression, f"({expression})+{shift}".replace("+-", "-")) is False


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(fragments, max_size=25).map("".join), st.one_of(answers, st.text(max_size=40)))
def test_no_text_makes_the_comparison_raise(text: str, gold: str) -> None:
    assert compare(gold, text) is None or isinstance(equal(gold, text), bool)
    assert compare(text, gold) is None or isinstance(equal(text, gold), bool)


def calls(function: Callable[[], Any]) -> int:
    """How many Python functions are called, a count that does not depend on the machine's load."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


LONG = [
    "(",
    "{",
    "[",
    r"\{",
    "1+",
    "x+",
    r"\frac{1}{",
    r"\sqrt{",
    "1,",
    "1 ",
    "x^",
    "2^",
    "|",
    r"\left(",
    r"\text{a} ",
    "-",
    "!",
    "1/",
    "a<",
    r"\pm 1,",
]
LONG += [
    r"1 \\ ",
    "&",
    r"\cup (1,2)",
    "三分之一",
    "ab",
    r"\sin ",
    "9",
    ".1",
    "1.",
    "x_",
    "'",
    "%",
    "1:",
    "x=1,",
    r"\begin{pmatrix}1",
    "2又",
    "each ",
]


@pytest.mark.parametrize("fragment", LONG)
def test_work_grows_with_the_text_and_not_with_what_it_nests(fragment: str) -> None:
    short, long = (fragment * (size // len(fragment)) for size in (MAX_CHARACTERS // 4, MAX_CHARACTERS))
    compare("x+1", "x+2")
    work = [calls(lambda text=text: compare("x+1", text)) for text in (short, long)]  # type: ignore[misc]
    assert work[1] <= 20 * work[0] + 20_000, work
    assert work[1] <= 600_000, work
