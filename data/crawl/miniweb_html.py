"""Renders documents of the mini-web as HTML: formulas in the encodings that sites use, and the site's frame around every page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from urllib.parse import quote_plus

from mathquarry.data.crawl.miniweb_document import Block, Document, Heading, Inline, Tex

_TOKEN = re.compile(r"\\boxed\{(\d+)\}|\d+|[a-z]|[-+=]")
_MINUS = "−"


def _tokens(tex: str) -> list[tuple[str, str]]:
    """(kind, text) of each token in a mini-web formula: number, letter, sign, box."""
    found = []
    for match in _TOKEN.finditer(tex):
        if match[1]:
            found.append(("box", match[1]))
        else:
            text = match[0]
            found.append(("number" if text.isdigit() else "letter" if text.isalpha() else "sign", text.replace("-", _MINUS)))
    return found


def _presentation(tex: str) -> str:
    """MathML that shows the formula."""
    tags = {
        "number": "<mn>{}</mn>",
        "letter": "<mi>{}</mi>",
        "sign": "<mo>{}</mo>",
        "box": '<menclose notation="box"><mn>{}</mn></menclose>',
    }
    return "<mrow>" + "".join(tags[kind].format(text) for kind, text in _tokens(tex)) + "</mrow>"


def _annotated(tex: Tex) -> str:
    block = ' display="block"' if tex.display else ""
    return (
        f'<math xmlns="http://www.w3.org/1998/Math/MathML"{block}><semantics>{_presentation(tex.source)}'
        f'<annotation encoding="application/x-tex">{escape(tex.source)}</annotation></semantics></math>'
    )


def _typed_dollars(tex: Tex) -> str:
    mark = "$$" if tex.display else "$"
    return f"{mark}{escape(tex.source)}{mark}"


def _typed_brackets(tex: Tex) -> str:
    return rf"\[{escape(tex.source)}\]" if tex.display else rf"\({escape(tex.source)}\)"


def _mathjax(tex: Tex) -> str:
    mode = "; mode=display" if tex.display else ""
    return f'<span class="MathJax_Preview">{escape(tex.source)}</span><script type="math/tex{mode}">{tex.source}</script>'


def _katex(tex: Tex) -> str:
    classes = {"number": "mord", "letter": "mord mathnormal", "sign": "mbin", "box": "boxpad"}
    glyphs = "".join(f'<span class="{classes[kind]}">{text}</span>' for kind, text in _tokens(tex.source))
    inner = (
        f'<span class="katex"><span class="katex-mathml">{_annotated(Tex(tex.source))}</span>'
        f'<span class="katex-html" aria-hidden="true"><span class="base">{glyphs}</span></span></span>'
    )
    return f'<span class="katex-display">{inner}</span>' if tex.display else inner


def _alttext(tex: Tex) -> str:
    block = "block" if tex.display else "inline"
    return f'<math alttext="{escape(tex.source)}" display="{block}">{_presentation(tex.source)}</math>'


def _wordpress(tex: Tex) -> str:
    source = (r"\displaystyle " if tex.display else "") + tex.source
    address = f"https://s0.wp.com/latex.php?latex={quote_plus(source)}&#038;bg=ffffff&#038;fg=000000&#038;s=0"
    return f'<img src="{address}" alt="{escape(tex.source)}" class="latex" />'


def _container(tex: Tex) -> str:
    return f'<span class="math-container">{_typed_dollars(tex)}</span>'


ENCODERS: dict[str, Callable[[Tex], str]] = {
    "dollars": _typed_dollars,
    "brackets": _typed_brackets,
    "mathjax-script": _mathjax,
    "katex": _katex,
    "mathml-annotation": _annotated,
    "mathml-alttext": _alttext,
    "wordpress-image": _wordpress,
    "math-container": _container,
}
"""Ways to put a formula into HTML, by their name in truth.jsonl."""
INLINE_ONLY = frozenset({"wordpress-image"})
"""Encodings that cannot mark a formula as displayed."""


@dataclass(frozen=True)
class Frame:
    """The markup that a site puts around the content of its pages."""

    name: str
    menu: tuple[tuple[str, str], ...]
    """(label, path)"""
    layout: int
    """One of three page layouts."""


LAYOUTS = 3


def render(document: Document, frame: Frame, encoding: str) -> str:
    """A complete HTML page."""
    encode = ENCODERS[encoding]
    body = "\n".join(_block(block, encode) for block in document.blocks)
    title = escape(document.title)
    links = "".join(f'<li><a href="{path}">{escape(label)}</a></li>' for label, path in frame.menu)
    menu = f"<ul>{links}</ul>"
    name = escape(frame.name)
    head = f'<meta charset="utf-8">\n<title>{title} | {name}</title>\n{_SCRIPTS.get(encoding, "")}'
    if frame.layout == 0:
        page = (
            f'<header class="site-header"><a href="/">{name}</a><nav>{menu}</nav></header>\n'
            f"<main><article>\n<h1>{title}</h1>\n{body}\n</article></main>\n"
            f'<footer class="footer"><p>Copyright {name}. All rights reserved.</p>{menu}</footer>'
        )
    elif frame.layout == 1:
        page = (
            f'<div id="header" class="header"><div class="logo">{name}</div></div>\n<div id="nav" class="navigation">{menu}</div>\n'
            f'<div id="content" class="content">\n<h1>{title}</h1>\n{body}\n</div>\n'
            f'<div id="sidebar" class="sidebar"><h3>Popular</h3>{menu}</div>\n'
            f'<div id="footer" class="footer">{name} | Privacy policy | Terms of use</div>'
        )
    else:
        page = (
            '<div class="cookie-banner" role="dialog">We use cookies. <button>Accept</button></div>\n'
            f'<nav class="topbar">{menu}</nav>\n<div class="wrapper"><main id="main">\n<h1>{title}</h1>\n'
            f'{body}\n</main><aside class="related"><h3>Related</h3>{menu}</aside></div>\n'
            f"<footer>{name} <a href='/imprint'>Imprint</a></footer>"
        )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}</head>\n<body>\n{page}\n</body>\n</html>\n'


_CONFIGURE = (
    """<script type="text/x-mathjax-config">MathJax.Hub.Config({tex2jax: {inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]]}});</script>\n"""
)
_SCRIPTS = {
    "dollars": _CONFIGURE,
    "brackets": _CONFIGURE,
    "mathjax-script": '<script src="/js/mathjax/MathJax.js" async></script>\n',
    "katex": '<link rel="stylesheet" href="/css/katex.min.css">\n',
    "math-container": _CONFIGURE,
}


def _block(block: Block, encode: Callable[[Tex], str]) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    return "<p>" + "<br>\n".join("".join(_inline(part, encode) for part in line) for line in block.lines) + "</p>"


def _inline(part: Inline, encode: Callable[[Tex], str]) -> str:
    return escape(part, quote=False) if isinstance(part, str) else encode(part)
