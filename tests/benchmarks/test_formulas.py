import pytest

from tests.benchmarks.formulas import kept_formulas, normalised, source_formulas


@pytest.mark.parametrize(
    ("html", "formulas"),
    [
        ('<p>a <math alttext="x^2"><mi>x</mi></math> b</p>', ["x^2"]),
        (
            '<math alttext="y"><semantics><mi>x</mi><annotation encoding="application/x-tex">x_1</annotation></semantics></math>',
            ["x_1"],
        ),
        ('<script type="math/tex; mode=display">\\frac12</script>', ["\\frac12"]),
        ('<img class="latex" alt="\\sqrt 2" src="a.png">', ["\\sqrt 2"]),
        (r"<p>if \(a &lt; b\) and \[c\] hold</p>", ["a < b", "c"]),
        ("<p>pay $5 or $10, mathjax</p>", []),
        ("<p>katex: $x$ and $y_1$</p>", ["x", "y_1"]),
        ("<p>no renderer: $x$</p>", []),
        ("<pre>$$x$$</pre><code>$$y$$</code><nav>$$z$$</nav>", []),
        ('<span class="katex"><math><annotation encoding="tex">u</annotation></math><span class="katex-html">$$u$$</span></span>', ["u"]),
    ],
)
def test_the_source_states_its_formulas(html: str, formulas: list[str]) -> None:
    assert source_formulas(html) == formulas


def test_spellings_of_one_formula_are_the_same() -> None:
    assert normalised("$$ {w}^{9} \\leq \\left( a \\right) $$") == normalised("\\( w^9\\le(a) \\)")
    assert normalised("a \\\\\n b") == normalised("a \\\\ b") != normalised("a b")


def test_every_occurrence_is_counted_and_short_formulas_need_delimiters() -> None:
    assert kept_formulas("take $x$ or x", ["x", "x"]) == 1
    assert kept_formulas("so \\frac{a}{b} = c_1 + 1 stands bare", ["\\frac{a}{b}=c_1+1", "c_1"]) == 1
    assert kept_formulas("nothing", ["x"]) == 0
