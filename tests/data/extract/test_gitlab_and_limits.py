"""GitLab's formulas, and both limits of a sign as MathJax 3 draws them without assistive MathML."""

from __future__ import annotations

import pytest

from mathquarry.data.extract.html import extract

LONG = "<p>" + "A paragraph that is long enough to make this the main content of its page. " * 6 + "</p>"


def mi(code: str) -> str:
    return f'<mjx-mi class="mjx-i"><mjx-c class="mjx-c{code}"></mjx-c></mjx-mi>'


SUM = '<mjx-mo class="mjx-lop"><mjx-c class="mjx-c2211 TEX-S2"></mjx-c></mjx-mo>'
UPPER, LOWER, TERM = mi("1D45B"), mi("1D456"), mi("1D457")
BELOW = f"<mjx-munder><mjx-row><mjx-base>{SUM}</mjx-base></mjx-row><mjx-row><mjx-under>{LOWER}</mjx-under></mjx-row></mjx-munder>"


@pytest.mark.parametrize(
    ("drawn", "tex"),
    [
        (f"<mjx-munderover><mjx-over>{UPPER}</mjx-over><mjx-box>{BELOW}</mjx-box></mjx-munderover>", r"\sum_i^nj"),
        (BELOW, r"\sum_ij"),
        (f"<mjx-mover><mjx-over>{UPPER}</mjx-over><mjx-base>{SUM}</mjx-base></mjx-mover>", r"\sum^nj"),
    ],
)
def test_limits_stand_on_their_own_sides(drawn: str, tex: str) -> None:
    formula = f'<mjx-container class="MathJax" jax="CHTML"><mjx-math>{drawn}{TERM}</mjx-math></mjx-container>'
    assert tex in extract(f"<article>{LONG}<p>So {formula}.</p>{LONG}</article>").text


def test_gitlabs_formulas_are_formulas() -> None:
    inline = '<code class="code math js-render-math" data-math-style="inline">e^{i\\pi}</code>'
    display = '<pre class="code math js-render-math" data-math-style="display"><code>a = b</code></pre>'
    found = extract(f"<article>{LONG}<p>So $`a^2`$ and {inline} hold.</p>{display}{LONG}</article>")
    assert "So $a^2$ and $e^{i\\pi}$ hold." in found.text
    assert "$$a = b$$" in found.text
