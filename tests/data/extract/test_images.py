"""An image is read as a formula if its text or its address proves it, on any host; otherwise it is left out."""

from __future__ import annotations

import pytest

from mathquarry.data.extract.html import extract

LONG = "<p>" + "A paragraph that is long enough to make this the main content of its page. " * 6 + "</p>"
STATED = LONG.removeprefix("<p>").removesuffix("</p>").strip()


def read(image: str) -> str:
    """The extracted text in place of the image in a sentence."""
    found = extract(f"<!DOCTYPE html><html><body><article>{LONG}<p>Then {image} holds.</p>{LONG}</article></body></html>")
    text = " ".join(found.text.replace(STATED, " ").split())
    assert text.startswith("Then "), text
    assert text.endswith("holds."), text
    return text.removeprefix("Then ").removesuffix("holds.").strip()


A_SQUARED = {
    "habr": '<img src="https://habrastorage.org/getpro/habr/formulas/1/x.svg" alt="$a^2$" data-tex="inline">',
    "old habr": '<img src="https://habrastorage.org/1/x.svg" alt="$inline$a^2$inline$" data-tex="inline">',
    "jianshu": '<img class="math-inline" src="https://math.jianshu.com/math?formula=a%5E2" alt="a^2" mathimg="1">',
    "jianshu, no alt": '<img src="https://math.jianshu.com/math?formula=a%5E2">',
    "latex2html": '<img align="MIDDLE" border="0" src="img5.png" alt="$a^2$">',
    "latex2html marked": '<img width="12" src="img5.png" alt="% latex2html id marker 779\n$\\displaystyle a^2$">',
    "latex2html display": '<img src="img6.gif" alt="\\begin{displaymath}a^2\\end{displaymath}">',
    "mathworld": '<img src="/images/equations/Circle/Inline1.svg" class="inlineformula" alt="a^2">',
    "upmath": '<img src="https://i.upmath.me/svg/a%5E2" alt="a^2">',
    "upmath, no alt": '<img src="https://i.upmath.me/svg/a%5E2">',
    "s2cms": '<img src="//tex.s2cms.ru/svg/a%5E2" alt="">',
    "zhihu": '<img src="https://www.zhihu.com/equation?tex=a%5E2" alt="a^2" eeimg="1">',
    "zhihu placeholder": '<img src="https://www.zhihu.com/equation?tex=a%5E2" alt="[公式]" eeimg="1">',
    "zhihu lazy": '<img src="data:image/svg+xml;utf8,&lt;svg&gt;" data-actualsrc="https://www.zhihu.com/equation?tex=a%5E2" alt="公式">',
    "lazy": '<img src="/blank.gif" data-src="https://juejin.cn/equation?tex=a%5E2" alt="">',
    "lazy original": '<img src="/blank.gif" data-original="https://latex.csdn.net/eq?a%5E2">',
    "juejin": '<img class="equation" src="https://juejin.cn/equation?tex=a%5E2" alt="">',
    "csdn": '<img alt="a^2" class="mathcode" src="https://latex.csdn.net/eq?a%5E2" />',
    "csdn codecogs": '<img src="https://private.codecogs.com/eq.latex?a%5E2">',
    "github": '<img src="https://render.githubusercontent.com/render/math?math=a%5E2&amp;mode=inline">',
    "github camo": '<img alt="$a^2$" src="https://camo.githubusercontent.com/0123/4567">',
    "moodle": '<img class="texrender" title="a^2" alt="a^2" src="https://school.example/filter/tex/pix.php/0123456789abcdef.gif">',
    "moodle, no class": '<img alt="a^2" src="https://school.example/filter/tex/pix.php/0123456789abcdef.png">',
    "canvas": '<img class="equation_image" alt="LaTeX: a^2" src="https://school.example/equation_images/a%255E2">',
    "canvas, no alt": '<img src="https://school.example/equation_images/a%255E2">',
    "brainly": '<img src="https://tex.z-dn.net/?f=a%5E2" alt="">',
    "wolfram-like host": '<img src="https://pictures.example/draw?tex=a%5E2">',
    "unknown eq": '<img src="https://pictures.example/eq?a%5E2">',
    "unknown path": '<img src="https://pictures.example/draw/a%5E2.png">',
    "sciweavers": '<img src="http://www.sciweavers.org/tex2img.php?eq=a%5E2&amp;bc=White&amp;fc=Black&amp;im=jpg">',
    "wordpress": '<img src="https://s0.wp.com/latex.php?latex=a%5E2&#038;bg=ffffff&#038;fg=000">',
    "chart": '<img src="https://chart.googleapis.com/chart?cht=tx&amp;chl=a%5E2">',
    "codecogs": '<img src="https://latex.codecogs.com/svg.image?\\inline&amp;space;a^2" title="\\inline a^2">',
    "aops": '<img src="//latex.artofproblemsolving.com/f/0/f/f0f1.png" class="latex" alt="$a^2$">',
    "sphinx": '<img src="_images/math/767b9280eb4c7a6ad46be67cb9782508dc6d1f22.png" alt="a^2">',
    "planetmath": '<img src="http://images.planetmath.org/cache/1/img1.png" alt="$a^2$">',
    "parentheses": '<img src="1.png" alt="\\(a^2\\)">',
}


@pytest.mark.parametrize("producer", A_SQUARED)
def test_a_picture_of_any_producer_is_its_formula(producer: str) -> None:
    assert read(A_SQUARED[producer]) == "$a^2$"


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ('<img src="1.png" alt="\\frac{a}{b}">', r"$\frac{a}{b}$"),
        ('<img src="1.png" alt="x \\in A \\text{ for all } x">', r"$x \in A \text{ for all } x$"),
        ('<img src="1.png" alt="f(x)=\\begin{cases}1 &amp; x\\ge0\\\\0\\end{cases}">', r"$f(x)=\begin{cases}1 & x\ge0\\0\end{cases}$"),
        ('<img src="1.png" alt="\\begin{eqnarray*}a&amp;=&amp;b\\end{eqnarray*}">', r"$$\begin{eqnarray*}a&=&b\end{eqnarray*}$$"),
        ('<img src="1.png" alt="\\[a\\]">', "$$a$$"),
        ('<img src="1.png" alt="$$a$$">', "$$a$$"),
        ('<img src="1.png" alt="$display$a$display$">', "$$a$$"),
        ('<img src="1.png" alt="$n$">', "$n$"),
        ('<img src="1.png" alt=":math:`z = \\sin x`">', r"$z = \sin x$"),
        ('<img src="1.png" alt="$ABC$">', "$ABC$"),
        ('<img src="1.png" alt="$\\triangle ABCD$">', r"$\triangle ABCD$"),
        ('<img src="1.png" alt="$12$">', "$12$"),
        ('<img src="https://www.zhihu.com/equation?tex=n" alt="[公式]">', "$n$"),
        ('<img src="https://www.zhihu.com/equation?tex=x+%5Cin+A%2BB" alt="[公式]">', r"$x \in A+B$"),
        ('<img src="https://i.upmath.me/svg/%5Cfrac%7Ba%7D%7Bb%7D">', r"$\frac{a}{b}$"),
        ('<img src="https://i.upmath.me/svg/\\frac{a/c}{b}">', r"$\frac{a/c}{b}$"),
        ('<img src="https://render.githubusercontent.com/render/math?math=\\begin{align}a%26=b%5C%5Cc%26=d\\end{align}">', None),
        ('<img src="https://x.example/render/math?math=\\begin{array}{c}a&amp;b\\end{array}">', r"$\begin{array}{c}a&b\end{array}$"),
        ('<img src="a.svg" class="numberedequation" alt="sum_(k=0)^infty1/(k!)">', r"$$\sum_{k=0}^{\infty}\frac{1}{k!}$$"),
    ],
)
def test_pictures_of_other_formulas(image: str, text: str | None) -> None:
    assert read(image) == (text or r"$\begin{align}a&=b\\c&=d\end{align}$")


@pytest.mark.parametrize(
    "image",
    [
        '<img src="cat.png" alt="a cat">',
        '<img src="cat.png" alt="$5 off">',
        '<img src="cat.png" alt="$5">',
        '<img src="cat.png" alt="from $5 to $10">',
        '<img src="cat.png" alt="$5 and $">',
        '<img src="cat.png" alt="$100 – 200$">',
        '<img src="cat.png" alt="$Money$">',
        '<img src="cat.png" alt="$post.title$">',
        '<img src="cat.png" alt="$image_alt$">',
        '<img src="cat.png" alt="$$$">',
        '<img src="cat.png" alt="$$$$">',
        '<img src="cat.png" alt="${title}">',
        '<img src="cat.png" alt="$this is a long word$">',
        '<img src="cat.png" alt="C:\\to\\in\\photo.png">',
        '<img src="cat.png" alt="\\\\server\\share\\cat.png">',
        '<img src="a_b.png" alt="IMG_2024_x^2.png">',
        '<img src="cat.png" alt="Graph of \\sin x">',
        '<img src="cat.png" alt="Plot: \\frac{1}{x}">',
        '<img src="cat.png" alt="Contour Map of :math:`z = - \\frac{3 y}{x^{2} + 1}`">',
        '<img src="cat.png" alt="Graph of $y=x^2$ and $y=x$">',
        '<img src="cat.png" alt="函数\\sin x的图像">',
        '<img src="cat.png" alt="x = 5">',
        '<img src="cat.png?math=1&amp;eq=2" alt="">',
        '<img src="/shop/picture?tex=denim%20jacket" alt="">',
        '<img src="/shop/picture?formula=baby+milk" alt="">',
        '<img src="/eq?id=7" alt="">',
        '<img src="/quake/eq?place=Chile&amp;m=7" alt="">',
        '<img src="/photos/A%20cat%20%5E_%5E.png" alt="">',
        '<img src="/photos/100%25.png" alt="">',
        '<img src="/photos/%E5%85%AC%E5%BC%8F.png" alt="公式">',
        '<img src="/photos/%ZZ.png" alt="">',
        '<img src="http://[bad/eq?a^2" alt="">',
        '<img src="data:image/png;base64,AAA%5E2" alt="">',
        '<img class="latex" src="glove.png" alt="LaTeX formula">',
        '<img class="math" src="1.png" alt="[公式]">',
        '<img class="math" src="1.png" alt="Formula 3">',
        '<img src="https://www.zhihu.com/equation?tex=" alt="[公式]">',
        "<img>",
    ],
)
def test_any_other_picture_stays_out(image: str) -> None:
    assert read(image) == ""


def test_hostile_texts_and_addresses_take_no_time() -> None:
    for filling in (
        "\\frac{" * 2_000,
        "$" + "\\$" * 5_000,
        "a" * 200_000,
        "$" + "ab_" * 100_000 + "$",
        "\\begin{a}" * 3_000,
        "%5C" * 50_000,
    ):
        many = f'<img alt="{filling[:3900]}" src="/eq?{filling[:3900]}"><img alt="{filling}" src="/svg/{filling}">' * 20
        assert "holds" in extract(f"<html><body><article>{LONG}<p>{many} It holds.</p></article></body></html>").text
