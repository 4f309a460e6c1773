"""Gold answers respelled: harmless spellings are accepted, harmful ones rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.grade import harmful, harmless
from tests.data.grade.measure import HARMFUL, HARMLESS, gold_answers, misjudged, respelled

OF_EVERY_KIND = [
    "18", "-7", "0", "1,234", "12500", "3.25", r"\frac{3}{4}", r"-\frac{7}{2}", r"\frac{5}{11}", r"2\frac12", "25%", r"\$12.50",
    r"11\text{ cm}^2",
    r"45^\circ", r"2\sqrt{3}", r"\frac{\pi}{3}", r"1-\sqrt{5}", "x^2-3x+2", r"\frac{x-1}{x+2}", "(2,-3)", r"(-1, \frac{1}{2}, 4)", "[0,2)",
    r"(-\infty, 3]", r"(-\infty,1)\cup(2,\infty)", "1, 2, 5", r"\{1,3\}", "y=2x+1", r"x \le 4", r"1 < x < 5", r"\text{Evelyn}",
    r"\text{dog bites man}", r"\text{(B)}", "C", "12_8", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", 
    r"\begin{pmatrix} 7 \\ 5 \end{pmatrix}",
    "3+4i", r"\binom{n}{2}", "2^{n+1}", "3:4",
]  # fmt: skip


@pytest.mark.parametrize("gold", OF_EVERY_KIND)
def test_harmless_spellings_are_accepted_and_harmful_ones_rejected(gold: str) -> None:
    assert misjudged(respelled([gold])) == []


def test_rules_give_enough_spellings_of_every_kind() -> None:
    few = {gold for gold in OF_EVERY_KIND if len(harmless.spellings(gold)) < HARMLESS or len(harmful.spellings(gold)) < HARMFUL}
    assert few == set()


def test_rules_never_give_the_gold_answer_or_one_spelling_twice() -> None:
    for gold in OF_EVERY_KIND:
        found = [*harmless.spellings(gold).values(), *harmful.spellings(gold).values()]
        assert gold not in found
        assert len(set(found)) == len(found)


@pytest.mark.slow
def test_respelled_gold_answers_of_four_problem_sets_are_graded_correctly(shared_data: Path) -> None:
    """A fifth of them; `python -m tests.data.grade.measure` takes all."""
    spellings = respelled(gold_answers(shared_data, 0.2))
    harmless_ones = sum(spelling.right for spelling in spellings)
    errors = misjudged(spellings)
    rejected = [spelling for spelling in errors if spelling.right]
    accepted = [spelling for spelling in errors if not spelling.right]
    assert harmless_ones > 20_000
    assert len(rejected) <= 0.005 * harmless_ones, rejected
    assert len(accepted) <= 0.001 * (len(spellings) - harmless_ones), accepted
