"""List items have bullets, numbers stay numbers, and text after a list has neither."""

from __future__ import annotations

import pytest

from mathquarry.data.extract.html import extract
from mathquarry.data.extract.lists import BULLET, with_bullets

LONG = "A paragraph that is long enough to make this the main content of its page. " * 6


@pytest.mark.parametrize(
    ("fragment", "lines"),
    [
        (
            "<table><tr><td>Mon</td><td><ul><li>10:00</li></ul></td></tr><tr><td>Tue</td><td><ul><li>x^2+1=0</li></ul></td></tr></table>",
            ["Mon", "• 10:00", "Tue", "• x^2+1=0"],
        ),
        ("<ul><li>one</li><li>two<ul><li>three</li></ul></li></ul><p>after</p>", ["• one", "• two", "• three", "after"]),
        ("<menu><li>one</li></menu><p>after</p>", ["• one", "after"]),
        ("<table><tr><td><li>stray</td><td>next</td></tr></table>", ["• stray", "next"]),
        ("<ul><li><p>one</p></li><li></li><li>甲</li></ul>", ["• one", "• 甲"]),
        ("<ul><li><ul><li>inner</li></ul></li></ul>", ["• inner"]),
        ("<ul><li>1. one</li></ul>", ["• 1. one"]),
        ("<ol><li>one<ul><li>two</li></ul></li><li>three</li></ol>", ["1. one", "• two", "2. three"]),
        (f"<p>7. {BULLET}{BULLET} x</p>", ["7. x"]),
    ],
)
def test_bullets_stand_before_items_only(fragment: str, lines: list[str]) -> None:
    found = extract(f"<html><body><article><p>{LONG}</p>{fragment}<p>{LONG}</p></article></body></html>").text
    read = [" ".join(line.split()) for line in found.splitlines() if line.strip()]
    assert read == [LONG.strip(), *lines, LONG.strip()]


def test_the_text_after_a_list_is_not_indented() -> None:
    found = extract(f"<html><body><article><p>{LONG}</p><ul><li>one</li></ul><p>{LONG}</p></article></body></html>").text
    assert found.endswith(f"\n\n{LONG.strip()}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1. {}one\n2. {}two", "• one\n• two"),
        ("{}one{} two", "• one• two"),
        ("10. {}\n  1. {}inner", "• inner"),
        ("in 1999. {}one", "in • one"),
        ("1234567. {}one", "1234567. • one"),
        ("a 3.{}one 4. two", "a • one 4. two"),
    ],
)
def test_a_bullet_takes_the_place_of_the_number_before_it(text: str, shown: str) -> None:
    assert with_bullets(text.replace("{}", 2 * BULLET)) == shown
