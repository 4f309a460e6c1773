import pytest

from mathquarry.data.extract.asciimath import to_tex


@pytest.mark.parametrize(
    ("source", "tex"),
    [
        ("x/y", r"\frac{x}{y}"),
        ("(a+b)/(c-d)", r"\frac{a + b}{c - d}"),
        ("sum_(i=1)^n i^3", r"\sum_{i = 1}^n i^3"),
        ("((n(n+1))/2)^2", r"(\frac{n ( n + 1 )}{2})^2"),
        ("sqrt(x^2+1)", r"\sqrt{x^2 + 1}"),
        ("root(3)(x)", r"\sqrt[3]{x}"),
        ("frac{a}{b}", r"\frac{a}{b}"),
        ("x in RR", r"x \in \mathbb{R}"),
        ("alpha <= beta", r"\alpha \le \beta"),
        ("lim_(x->oo) f(x)", r"\lim_{x \to \infty} f (x)"),
        ("vec v", r"\vec{v}"),
        ('"if" x > 0', r"\text{if} x > 0"),
        ("text(for all) n", r"\text{for all} n"),
        ("int_0^1 3.14 dx", r"\int_0^1 3.14 d x"),
        ("x != y", r"x \ne y"),
        ("[a,b)", "[a , b)"),
    ],
)
def test_formulas_are_read_by_the_published_grammar(source: str, tex: str) -> None:
    assert "".join(to_tex(source).split()) == "".join(tex.split())


@pytest.mark.parametrize("source", ["", "(", ")", "x^", "/", "sqrt", "frac", "a/", "(" * 5000, "sqrt " * 5000, "x_" * 3000])
def test_bad_input_never_raises(source: str) -> None:
    assert isinstance(to_tex(source), str)
