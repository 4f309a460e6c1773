"""Only real nesting counts as too deep, and no script or style of a deeply nested page enters its text."""

from __future__ import annotations

import pytest

from mathquarry.data.extract.html import extract
from mathquarry.data.extract.nesting import is_too_deep
from mathquarry.data.extract.plain import extract_plain

LONG = "<p>" + "A paragraph that is long enough to make this the main content of its page. " * 6 + "</p>"
SCRIPT = "<script>var menu = 'hidden source';</script><style>.hidden { color: source }</style>"


def page(fragment: str) -> str:
    return f"<html><head>{SCRIPT}</head><body><article>{LONG}{fragment}{LONG}</article></body></html>"


@pytest.mark.parametrize(
    "fragment",
    [
        f"<svg>{'<use href=#a />' * 600}</svg>",
        f"<svg>{'<path d=M0/>' * 600}</svg>",
        f"<math>{'<mspace width=1em />' * 600}</math>",
        "x<br>" * 600,
        "<img src=a>" * 600,
        f"<script>var a = '{'<div>' * 600}';</script>",
        f"<style>/* {'<div>' * 600} */</style>",
        f"<!-- {'<div>' * 600} -->",
        f"<textarea>{'<div>' * 600}</textarea>",
    ],
)
def test_what_does_not_nest_leaves_a_pages_formulas(fragment: str) -> None:
    html = page(f'<p>Then \\(a=b\\) and <math alttext="q^2"><mi>q</mi></math>.</p>{fragment}')
    assert not is_too_deep(html.encode())
    found = extract(html)
    assert found.kinds["typed-paren"] == found.kinds["mathml-alttext"] == 1
    assert "source" not in found.text
    assert "source" not in extract_plain(html).text


@pytest.mark.parametrize("opened", ["<div>", "<div/>", "<span class=a/>", "<b>", "<svg><g>", "<svg><div/>", "<x-a/>"])
def test_real_nesting_is_found_however_it_is_written(opened: str) -> None:
    html = page(opened * 1000 + "deep")
    assert is_too_deep(html.encode())
    for found in (extract(html), extract_plain(html)):
        assert "deep" in found.text
        assert "source" not in found.text


def test_a_page_of_beginnings_costs_no_more_than_its_length() -> None:
    for part in ("<script", "<!--", "<title>", "<a <b", "<svg/"):
        is_too_deep(part.encode() * 50_000)
