"""Boilerplate is removed, and text that only looks like it is kept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies

from mathquarry.data.extract.boilerplate import boilerplate, without
from mathquarry.data.extract.html import extract
from mathquarry.data.extract.names import may_have_formula
from mathquarry.data.extract.outline import outline

TOLD = [
    f"The {number} paragraph of the text tells at some length what there is to tell about sums, and it has no links, as prose has few."
    for number in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
]
ARTICLE = "".join(f"<p>{told}</p>" for told in TOLD)
LINKS = "".join(f"<a href='/{number}'>Chapter {number}</a> " for number in range(6))


def page(around: str = "", before: str = "") -> str:
    return f"<html><body><div class='page'>{before}<div class='text'><h1>Sums</h1>{ARTICLE}</div>{around}</div></body></html>"


def kept(source: str) -> str:
    """The source without boilerplate."""
    found = outline(source.encode())
    return without(found, boilerplate(found)).decode()


@pytest.mark.parametrize(
    "block",
    [
        f"<div>{LINKS}</div>",
        f"<section><p>See</p>{LINKS}</section>",
        f"<td>{LINKS}</td>",
        "<div><h3>Related posts</h3><p>A post about quotients</p></div>",
        "<section><div><h2>You may also like</h2></div><p>A post about quotients</p></section>",
        "<aside><h4>Leave a reply</h4><p>Your address will not be published</p></aside>",
        "<div><h3>相关文章</h3><p>商的故事</p></div>",
        "<div class='share-buttons'>Share Tweet Pin</div>",
        "<div id='cookie-notice'>This site uses cookies</div>",
        "<div role='navigation'>Home &gt; Sums</div>",
        "<p class='byline'>By a person</p>",
        "<div class=newsletter>Never miss a sum</div>",
        "<div>New: <a href='/q'>quotients</a> and <a href='/d'>differences</a> are out now</div>",
        "<div class='comments-area'><p>Thanks for this!</p><p>I prefer products.</p></div>",
    ],
)
def test_surroundings_go(block: str) -> None:
    assert kept(page(block)).split() == page(" ").split()


@pytest.mark.parametrize(
    "block",
    [
        f"<div>{LINKS} $x_1 = 2$</div>",
        f"<div class='sidebar'>{LINKS}<math><mi>x</mi></math></div>",
        "<div><h3>Related posts</h3><p>Why \\(1+1=2\\)</p></div>",
        "<div class='comments'><p>But <span class='katex'>x</span>?</p></div>",
        "<div class='comments'><img src='https://latex.codecogs.com/x'></div>",
    ],
)
def test_a_block_that_may_hold_a_formula_stays(block: str) -> None:
    assert kept(page(block)) == page(block)


FORMULA = re.compile(
    rb"<(?:\w+:)?math|type=[\"']?math/|[\"' ](?:katex|mathjax\w*|mwe-math\S*|latex|tex|math|math-container)[\"' ]|latex|codecogs"
    rb"|\\\(|\\\[|\$\$|\\begin\{|\[/(?:i?tex|math)\]|\$[^$<>\n]{0,80}[\\^_=][^$<>\n]{0,80}\$"
)
PARTS = [b"<math", b"<m:math", b"tex", b"text", b"latex", b"katex", b" ", b'"', b"'", b"[/", b"]", b"mjx", b"<", b"type=", b"math/", b"jax"]
PARTS += [b"$", b"x_1", b"\\", b"(", b"begin{", b"codecogs", b"mwe-math", b"-container", b"class=", b">", b"itex"]


@given(strategies.lists(strategies.sampled_from(PARTS), max_size=8).map(b"".join))
def test_the_quick_search_for_formulas_misses_none(source: bytes) -> None:
    assert may_have_formula(source) == (FORMULA.search(source) is not None)


@pytest.mark.parametrize(
    "block",
    [
        "<div class='shared-memory'>Words on memory</div>",
        "<div class='elementor-widget'>Words in a page builder</div>",
        "<div class='cell tag_hide-input'>x = 1</div>",
        "<div><h3>Rates</h3><p>They are related</p></div>",
        "<dl><dt><a href='/sin'>sin</a></dt><dd><a href='/x'>x</a> <a href='/y'>y</a></dd></dl>",
        "<p>As <a href='/a'>Gauss</a>, <a href='/b'>Euler</a> and <a href='/c'>Cauchy</a> showed in their papers, it holds.</p>",
    ],
)
def test_words_that_only_look_like_a_menus_stay(block: str) -> None:
    source = page().replace("</div></div></body>", f"{block}</div></div></body>")  # in the main part
    assert kept(source) == source


def test_posts_of_a_forum_stay_whatever_their_names() -> None:
    post = "<li class='comment'><div class='comment-body'>I would add them one by one, and carry. <a href='/u'>me</a></div></li>"
    thread = f"<html><body><div class='comments'>{post * 6}</div></body></html>"
    assert kept(thread) == thread
    answers = "".join(f"<div class='answer'><p>{told}</p><div class='comments'><p>Is that so?</p></div></div>" for told in TOLD[:4])
    questions = f"<html><body><div class='question'><p>{TOLD[4]}</p></div>{answers}</body></html>"
    assert kept(questions) == questions


def test_a_name_on_much_of_a_page_says_nothing() -> None:
    source = page().replace("class='text'", "class='widget'")
    assert kept(source) == source
    parts = "<html><body>" + "".join(f"<div class='promo'><p>{told}</p></div>" for told in TOLD) + "</body></html>"
    assert kept(parts) == parts


def test_a_page_of_links_is_left_alone() -> None:
    source = f"<html><body><div>{LINKS}</div></body></html>"
    assert "Chapter 3" in extract(source).text


@pytest.mark.parametrize(
    "tag",
    [
        "<div class='banner-section'>",
        "<div class='article share'>",
        "<div style='display:none'>",
        "<div class='breadcrumb'>",
        "<footer>",
        "<aside>",
        "<div hidden>",
    ],
)
def test_a_main_part_with_the_name_of_something_else_is_found(tag: str) -> None:
    end = f"</{tag[1:].split()[0].rstrip('>')}>"
    text = extract(f"<html><body><p>Sums</p>{tag}{ARTICLE}{end}</body></html>").text
    assert all(told in text for told in TOLD)


def test_parts_that_a_script_would_show_one_by_one_are_found() -> None:
    hidden = "".join(f"<section class='slide' style='display: none;'><p>{told}</p></section>" for told in TOLD)
    assert TOLD[5] in extract(f"<html><body><p>Sums</p>{hidden}</body></html>").text


@pytest.mark.slow
def test_main_content_of_real_pages_agrees_with_what_it_should_be(shared_data) -> None:  # type: ignore[no-untyped-def]
    from tests.benchmarks.words import mean_agreement, read_main_content

    pages = read_main_content(shared_data / "web" / "main-content.jsonl.xz")
    found = mean_agreement(pages, lambda html: extract(html).text)
    # 0.953, 0.983 and 0.963 when written.
    assert found.precision >= 0.949
    assert found.recall >= 0.98
    assert found.f1 >= 0.96
