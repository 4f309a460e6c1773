"""An outline of a page agrees with a parser's."""

from __future__ import annotations

from hypothesis import given, strategies
from resiliparse.parse.html import HTMLTree

from mathquarry.data.extract.outline import BLOCKS, Outline, outline


def blocks(page: Outline) -> list[tuple[str, int, int, int]]:
    """(element, text, text in links, links) of each block."""
    numbers = zip(page.code.tolist(), page.text.tolist(), page.linked.tolist(), page.links.tolist(), strict=True)
    return [(BLOCKS[code], text, linked, links) for code, text, linked, links in numbers]


def test_text_and_links_are_counted_in_every_block() -> None:
    page = outline(b"<div id=a>one <p>two <a href='/x'>three</a></p> \n four</div><div>five</div>")
    assert blocks(page) == [("div", 15, 5, 1), ("p", 8, 5, 1), ("div", 4, 0, 0)]
    assert (page.total, page.total_linked) == (19, 5)
    assert page.tag(0) == b"<div id=a>"
    assert page.content(1).startswith(b"two <a")


def test_scripts_styles_and_comments_hold_neither_text_nor_blocks() -> None:
    raw = "<script>var a = '<div>' </script><style>p{}</style><!-- <div> -- > <p> --><select><option>x</select><SCRIPT>if (a<b) {}</SCRIPT>"
    assert blocks(outline(f"<div>{raw}one</div>".encode())) == [("div", 3, 0, 0)]


def test_elements_without_an_end_tag_are_not_known_and_paragraphs_do_not_nest() -> None:
    assert blocks(outline(b"<div><p>one<p>two</p></div><div>three")) == [("div", 6, 0, 0), ("p", 3, 0, 0)]
    assert blocks(outline(b"</div><div>one</div></div>")) == [("div", 3, 0, 0)]


def test_an_anchor_without_an_address_is_no_link() -> None:
    assert blocks(outline(b"<p><a name='top'>one two</p><p>three</p>")) == [("p", 6, 0, 0), ("p", 5, 0, 0)]


def test_a_letter_counts_as_its_bytes() -> None:
    assert blocks(outline("<p>解 x</p>".encode())) == [("p", 4, 0, 0)]


def test_names_are_told_apart_from_longer_ones_and_case_is_ignored() -> None:
    assert [name for name, *_ in blocks(outline(b"<Section>a<divx>b</divx></SECTION><figcaption>c</figcaption><figure>d</figure>"))] == [
        "section",
        "figcaption",
        "figure",
    ]


@given(strategies.text("<>/!-ab \"'=pdivscrt", max_size=60))
def test_no_source_breaks_an_outline(source: str) -> None:
    page = outline(source.encode())
    assert all(start < inner <= end <= len(page.source) for start, inner, end in zip(page.start, page.inner, page.end, strict=True))


TREES = strategies.recursive(
    strategies.sampled_from(("one", "two words", "解", "x &lt; y", "<a href='/'>link</a>", "<br>", "<!-- no -->", "<i>three</i>")),
    lambda inner: strategies.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>",
        strategies.sampled_from(("div", "section", "ul", "article", "blockquote")),
        strategies.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


@given(TREES)
def test_an_outline_agrees_with_the_parser_on_well_formed_pages(source: str) -> None:
    source = source.replace("&lt;", "")
    body = HTMLTree.parse(source).body
    assert body is not None
    parsed = [
        (node.tag, len("".join((node.text or "").split()).encode()))
        for node in body.query_selector_all("div, section, ul, article, blockquote").values()
    ]
    assert [(name, text) for name, text, *_ in blocks(outline(source.encode()))] == parsed


def test_elements_are_counted_wherever_a_parser_might_find_them() -> None:
    page = outline(b"<SCRIPT>'<img>'</script><!-- <sub> --><mjx-math></mjx-math>")
    assert page.has("img")
    assert page.has("ul", "sub")
    assert page.has("mjx")
    assert not page.has("ul", "menu")


def test_the_rise_is_the_deepest_nesting_that_tags_allow() -> None:
    assert outline(b"</b></b>" + b"<div>" * 5 + b"</div>" * 5 + b"<p>").rise == 5
    assert outline(b"x").rise == 0
