"""A single character between two tags is kept, whatever the tags and however it is written."""

from __future__ import annotations

import html

import pytest
from hypothesis import given, strategies

from mathquarry.data.extract.html import extract
from mathquarry.data.extract.lone import MARK
from mathquarry.data.extract.plain import extract_plain

LONG = "<p>" + "A paragraph that is long enough to make this the main content of its page. " * 6 + "</p>"
STATED = LONG.removeprefix("<p>").removesuffix("</p>").strip()


def page(fragment: str) -> str:
    return f"<html><head><title>解</title></head><body><article>{LONG}{fragment}{LONG}</article></body></html>"


def between(text: str) -> str:
    """The extracted text of the fragment, with its white space collapsed."""
    return " ".join(text.replace(STATED, " ").split())


@pytest.mark.parametrize(
    ("fragment", "careful"),
    [
        ("<p>Then <i>a</i> ≤ <i>b</i> holds.</p>", "Then a ≤ b holds."),
        (
            "<p><i>x</i><sup>2</sup> − <i>y</i><sup>2</sup> = (<i>x</i> + <i>y</i>)(<i>x</i> − <i>y</i>)</p>",
            "x^{2} − y^{2} = (x + y)(x − y)",
        ),
        (
            '<p>若<script type="math/tex">a</script>且<script type="math/tex">b</script>，则<script type="math/tex">c</script>。</p>',
            "若$a$且$b$，则$c$。",
        ),
        ("<h2>解</h2><p>由题意得结论。</p>", "解 由题意得结论。"),
        ("<p><b>A</b>&le;<b>B</b>&#8800;<b>C</b>&#x2208;<b>D</b>&minus;<b>E</b></p>", "A≤B≠C∈D−E"),
        ("<p><i>a</i>⇒<!-- why --><i>b</i>“<i>c</i>”</p>", "a⇒b“c”"),
        ("<p><math><mi>a</mi><mo>≤</mo><mi>b</mi></math></p>", r"$a \le b$"),
        ('<p><span class="katex-html"><span class="mord">a</span></span>∞</p>', "a∞"),
        ("<p><code>$</code>€<code>`</code></p>", "$€`"),
    ],
)
def test_lone_characters_stand_in_the_text(fragment: str, careful: str) -> None:
    found = extract(page(fragment))
    assert between(found.text) == careful
    assert found.title == "解"
    assert MARK not in found.text


def test_items_and_cells_of_one_character_are_kept() -> None:
    table = "<table><tr><td>5</td><td>−</td><td>3</td><td>是</td><td>∞</td></tr></table>"
    assert between(extract(page(table + "<ul><li>甲</li><li>乙</li></ul>")).text).startswith("5 − 3 是 ∞ • 甲 • 乙")
    assert between(extract_plain(page(table)).text) == "5 − 3 是 ∞"


@given(
    strategies.characters(min_codepoint=0x800, max_codepoint=0xFFFF, categories=("L", "S", "P")),
    strategies.sampled_from(("i", "b", "span", "li", "td", "h3", "em", "div", "q", "font")),
    strategies.sampled_from(("", " ", "\n\t", "<!---->", "<wbr>")),
    strategies.booleans(),
)
def test_every_character_of_three_bytes_is_kept_between_any_tags(character: str, tag: str, space: str, entity: bool) -> None:
    written = f"&#{ord(character)};" if entity else character
    written_page = page(f"<p>x<{tag}>{space}{written}{space}</{tag}>{space}{written}<i>y</i>{written}</p>")
    assert extract(written_page).text.count(character) == 3
    assert extract_plain(written_page).text.count(character) == 3


def test_private_use_characters_of_a_page_do_not_pass_for_marks() -> None:
    assert between(extract(page(f"<p>a{MARK}b</p>")).text) == "ab"


@pytest.mark.parametrize("lost", ["1²", "2π", "x²", "5°", "(α", "=&pi;", "n&sup2;", "+½", "−", "&le;", "²x", "𝟐"])
def test_a_node_of_three_bytes_is_kept_of_however_many_characters(lost: str) -> None:
    shown = html.unescape(lost)
    for read in (extract, extract_plain):
        assert between(read(page(f"<p>p<i>q</i>{lost}<i>r</i></p>")).text) == f"pq{shown}r"


@given(strategies.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="<&$\\`"), strategies.sampled_from("²°½±×éπαβя"))
def test_an_ascii_character_before_one_of_two_bytes_is_kept(first: str, second: str) -> None:
    assert f"q{first}{second}r" in extract_plain(page(f"<p>p<i>q</i>{first}{second}<i>r</i></p>")).text
