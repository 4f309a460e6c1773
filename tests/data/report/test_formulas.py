"""Formulas of web pages in the report: rendered if possible, and never as the page's own markup."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from mathquarry.data.report.page.formulas import LONGEST, pieces, to_mathml

HARMLESS = {
    "math",
    "mrow",
    "mi",
    "mo",
    "mn",
    "mtext",
    "msup",
    "msub",
    "mfrac",
    "msqrt",
    "mroot",
    "mtable",
    "mtr",
    "mtd",
    "mstyle",
    "mspace",
}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_text_is_cut_into_plain_stretches_and_formulas_in_order() -> None:
    text = "Let $x > 0$ and\n\n$$x^2 = 2.$$\n\nIt costs \\$5 or $ 6 $."
    found = list(pieces(text))
    assert [(piece.text, piece.formula, piece.display) for piece in found] == [
        ("Let ", False, False),
        ("$x > 0$", True, False),
        (" and", False, False),
        ("$$x^2 = 2.$$", True, True),
        ("It costs \\$5 or $ 6 $.", False, False),
    ]


def test_a_formula_becomes_mathml() -> None:
    assert to_mathml(r"\frac{a}{2}") == "<math><mrow><mfrac><mrow><mi>a</mi></mrow><mrow><mn>2</mn></mrow></mfrac></mrow></math>"
    assert 'display="block"' in str(to_mathml(r"\sum_{i=1}^n i", display=True))
    root = ElementTree.fromstring(str(to_mathml(r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}")))
    assert len(root.findall(".//mtd")) == 4


@pytest.mark.parametrize("tex", [r"\unknown{x}", r"\frac{", "{" * 300, r"\begin{nothing}x", "x" * (LONGEST + 1), "\\", r"x_1_2"])
def test_tex_that_is_broken_unknown_or_long_is_left_as_it_is(tex: str) -> None:
    assert to_mathml(tex) is None


@pytest.mark.parametrize(
    "tex",
    [
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(http://evil.example)}{x}",
        r"\class{top}{x}",
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;img src=x onerror=alert(1)&gt;}",
        r"\text{&#x3c;script&#x3e;}",
        r"\mathrm{</math><script>}",
        r"\color{red;background:url(x)}{y}",
        r'\hspace{1em" onclick="alert(1)}',
        r"x & y < z",
    ],
)
def test_hostile_tex_gives_no_other_elements_or_attributes(tex: str) -> None:
    found = to_mathml(tex)
    if found is None:
        return
    for tag, attributes in Tags(str(found)).found:
        assert tag in HARMLESS
        assert not {"href", "style", "class", "onclick", "onerror", "src", "mathcolor", "id"} & attributes.keys()
    ElementTree.fromstring(str(found))  # and it is well formed
