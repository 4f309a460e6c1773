"""Finds formulas that are images: TeX from the alternative text, or from the URL of an image service.

An image counts as a formula only with evidence: a service or a class used for formulas, an alternative text that is TeX (in
delimiters, in an environment, or with commands and no prose), or a URL that requests TeX. A caption, a price or a file name is no
evidence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus, urlsplit

from mathquarry.data.extract import asciimath
from mathquarry.data.extract.tex import LONGEST, strip_directives

_CLASSES = re.compile(
    r"(?:^|\s)(?:latex|tex|math|texrender|wp-latex|math-(?:inline|block|display)|mathimg|equation_image|ql-img-\S*|mwe-math-fallback-image-\S*"
    r"|math-?image|equation-?image)(?:\s|$)"
)
_MATHWORLD = re.compile(r"(?:^|\s)(?:inlineformula|numberedequation|displayformula)(?:\s|$)")
# Programs and hosts that render only formulas.
_SERVICES = re.compile(
    r"latex\.php|codecogs\.com|mi[mn]etex|mathtex|tex\.cgi|latex\.cgi|[?&]cht=tx|/render/(?:svg|png)/|media/math|filter/(?:tex|algebra)/pix\.php"
    r"|/render/math\?|/equation\?tex=|/math\?formula=|/tex2img|/equation_images/|_images/math/[0-9a-f]{40}"
    r"|^(?:https?:)?//(?:(?:[\w-]+\.)*latex\.[\w.-]+|tex\.[\w.-]+|i\.upmath\.me|math\.(?:vercel\.app|now\.sh))/"
)
# Every match of `_SERVICES` contains one of these; searching for them is faster.
_SERVICE_SIGNS = ("tex", "math", "codecogs", "cht=tx", "/render/", "pix.php", "equation")
_ASKED = re.compile(r"(?:^|[?&])(?:latex|chl|tex|math|eq|formula|equation|from)=((?:[^&]|&(?!\w+=))*)")
_TEX_IN_ADDRESS = re.compile(r"[\\^]|%(?:5[CcEe]|25)")
"""A backslash or a caret, perhaps percent-encoded: without one, only a known service can mean TeX."""
_EQUATION_PAGE = re.compile(r"/(?:eq|equation|tex|latex|mathtex|mimetex)(?:\.\w+)?/?$")
_DRAWN_PATH = re.compile(r"^/(?:svg|png|gif|g|tex|latex|equation_images)/(.+)$")
_FILE_PATH = re.compile(r"\s*(?:[A-Za-z]:\\|\\\\\w)[^{}^$]*$")
_FILE_END = re.compile(r"\.(?:png|svg|gif|jpe?g|webp)$")
_SHORT = 3
"""Characters; any address may contain so few by chance."""
_DESCRIPTION = re.compile(
    r"(?i)\W*(?:(?:latex|tex|equation|formula|formel|formule|f[oó]rmula|ecuaci[oó]n|формула|уравнение|math|image|img|picture)\b[\w\s.]*"
    r"|(?:数学)?(?:公式|方程式?|图片|圖片|数式|수식)\s*\d*)\W*"
)
_ROLE = re.compile(r"\s*:math:`([^`]+)`\s*")  # what Sphinx writes when it did not understand its own markup
_LABELLED = re.compile(r"^\s*(?:(?:LaTeX|TeX):\s*|%\s*latex2html id marker \d+\s*)")
_DELIMITED = re.compile(
    r"\$\$(?P<dollars>[^$]+)\$\$|\$(?P<dollar>(?:[^$\\]|\\.)+)\$|\\\((?P<paren>.+)\\\)|\\\[(?P<bracket>.+)\\\]"
    r"|\$(?P<habr>inline|display)\$(?P<body>.+)\$(?P=habr)\$"
    r"|\\begin\{(?P<name>math|displaymath|equation\*?)\}(?P<environment>.+)\\end\{(?P=name)\}",
    re.DOTALL,
)
_DISPLAYED = re.compile(r"\s*\\begin\{(?:align|alignat|gather|multline|eqnarray|flalign)\*?\}")
_LONGEST_NAME = 80
"""Characters; longer text between dollars is not a name, and matching it against one would be slow."""
# Text between dollars that is not a formula: a name, a template's variable, a price.
_NO_FORMULA = re.compile(r"[A-Za-z]{4,}|\w*[A-Za-z]{2,}[._:][A-Za-z]{2,}[\w.:]*|[\d.,]+\s*(?:[-–+]\s*)?[A-Za-z]{0,3}\s.*|\W*")
_COMMAND = re.compile(
    r"\\(?:[dt]?frac|sqrt|sum|prod|i{1,3}nt|oint|lim(?:inf|sup)?|infty|partial|nabla|cdots?|[lvd]dots|times|div|pm|mp|circ|bullet"
    r"|l(?:eq?|t|eqslant)|g(?:eq?|t|eqslant)|neq?|approx|equiv|sim(?:eq)?|cong|propto|notin|in|ni|sub(?:set|seteq)|sup(?:set|seteq)|cup|cap"
    r"|setminus|emptyset|varnothing|forall|exists|neg|wedge|vee|oplus|otimes|to|gets|(?:long)?(?:left|right|leftright)arrow"
    r"|(?:Long)?(?:Left|Right|Leftright)arrow|implies|iff|mapsto|alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|iota|kappa|lambda"
    r"|mu|nu|xi|pi|(?:var)?rho|(?:var)?sigma|tau|upsilon|(?:var)?phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
    r"|sin|cos|tan|cot|sec|csc|arc(?:sin|cos|tan)|sinh|cosh|tanh|log|ln|lg|exp|det|dim|ker|gcd|max|min|inf|sup|deg|arg|Pr|bmod|pmod|mod"
    r"|math(?:bb|bf|rm|cal|frak|sf|tt|it|scr)|boldsymbol|bm|operatorname|text(?:rm|bf|it)?|mbox|hat|bar|vec|tilde|dot|ddot|over(?:line|brace|set)"
    r"|under(?:line|brace|set)|widehat|widetilde|binom|choose|over|atop|left|right|[bB]ig[gG]?[lr]?|displaystyle|textstyle|quad|qquad|begin|ell"
    r"|hbar|Re|Im|aleph|angle|triangle|perp|parallel|mid|langle|rangle|lfloor|rfloor|lceil|rceil|prime|boxed|stackrel|therefore|because|dag(?:ger)?"
    r")(?![A-Za-z])"
)
_WORDING = re.compile(r"\\(?:text(?:rm|bf|it|sf|tt)?|mbox|hbox|mathrm|mathit|operatorname\*?)\s*\{[^{}]*\}")
_ANY_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+\*?|\\.")
_DEEPEST = 20
"""Levels of braces that are searched for prose."""
_BRACED = re.compile(r"\{[^{}]*\}")
_PROSE = re.compile(
    r"(?<![A-Za-z\u00c0-\u024f])[A-Za-z\u00c0-\u024f]{2,}[,.:;]?\s+[A-Za-z\u00c0-\u024f]{2,}(?![A-Za-z(])|(?:^|\s)[A-Za-z\u00c0-\u024f]{4,}(?:[,.:;]|\s+(?![-+=<>*/^_&]|\s)|$)"
    r"|[\u0370-\u03ff\u0400-\u04ff]{4,}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}"
)


@dataclass(frozen=True)
class Picture:
    """An image as described in the page; `addresses` starts with the one that is shown, followed by those that a script loads."""

    addresses: tuple[str, ...]
    alt: str
    classes: str
    title: str = ""


def image_formula(picture: Picture) -> tuple[str, bool | None] | None:
    """TeX of an image that is a formula, and whether it is displayed (None if only its position tells); None for any other image."""
    alt = _unlabelled(picture.alt) if 0 < len(picture.alt) <= LONGEST else ""
    title = picture.title if len(picture.title) <= LONGEST else ""
    for text in (alt, title):
        if found := _delimited(text):
            return found
    if is_tex(alt):
        return strip_directives(alt), _DISPLAYED.match(alt) is not None or None
    display = "ql-img-displayed" in picture.classes
    addresses = [address for address in picture.addresses if len(address) <= LONGEST and not address.startswith("data:")]
    service = any(_is_service(address) for address in addresses)
    for address in addresses:
        if asked := _asked(address, service):
            return _delimited(asked) or (asked, display)
    if picture.classes and _MATHWORLD.search(picture.classes) and _says_something(alt, addresses):
        return (alt if "\\" in alt else asciimath.to_tex(alt)), "inline" not in picture.classes
    if (service or (picture.classes and _CLASSES.search(picture.classes))) and _says_something(alt, addresses):
        return strip_directives(alt), display
    return (title, display) if is_tex(title) else None


def _is_service(address: str) -> bool:
    for sign in _SERVICE_SIGNS:
        if sign in address:
            return _SERVICES.search(address) is not None
    return False


def is_tex(text: str) -> bool:
    """Whether a text has TeX commands and no prose."""
    if "\\" not in text or _FILE_PATH.match(text) or not _COMMAND.search(text):
        return False
    rest = _ANY_COMMAND.sub(" + ", _WORDING.sub("", text))
    for _ in range(_DEEPEST):
        if (shorter := _BRACED.sub("", rest)) == rest:
            break
        rest = shorter
    return _PROSE.search(rest) is None


def _unlabelled(text: str) -> str:
    text = _LABELLED.sub("", text)
    role = _ROLE.fullmatch(text)
    return role[1] if role else text


def _delimited(text: str) -> tuple[str, bool | None] | None:
    """The formula in a text that consists of one formula between delimiters."""
    text = text.strip()
    if not text.startswith(("$", "\\")) or not (match := _DELIMITED.fullmatch(text)):
        return None
    if habr := match["habr"]:
        return match["body"].strip(), habr == "display"
    kind, source = next((kind, found) for kind, found in match.groupdict().items() if found is not None and kind != "name")
    source = strip_directives(source)
    if kind in ("dollar", "dollars") and not _COMMAND.search(source):
        named = len(source) <= _LONGEST_NAME and _NO_FORMULA.fullmatch(source)
        if named or _PROSE.search(_BRACED.sub("", source)):
            return None
    if match["name"]:
        return source, False if match["name"] == "math" else None
    return source, kind in ("dollars", "bracket")


def _says_something(alt: str, addresses: list[str]) -> bool:
    """Whether an alternative text is the formula, not a description ("equation", "LaTeX formula", the file name)."""
    names_file = len(alt) > _SHORT and any(alt in address for address in addresses)
    return bool(alt.strip()) and not names_file and not _DESCRIPTION.fullmatch(alt)


def _asked(address: str, service: bool) -> str | None:
    """TeX that an address requests. If the service is unknown, only unmistakable TeX counts."""
    if not service and not _TEX_IN_ADDRESS.search(address):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    query = parts.query + (f"#{parts.fragment}" if parts.query and parts.fragment else "")
    query = query.replace("&amp;", "&")
    if field := _ASKED.search(query):
        value = query[field.start(1) :] if r"\begin" in unquote(field[1]) and r"\end" not in unquote(field[1]) else field[1]
        return _proven(unquote_plus(value), service)  # form fields encode a space as "+"
    if query and (service or _EQUATION_PAGE.search(parts.path)):
        return _proven(unquote(query.removeprefix("f=")), service)  # a bare query means the sign
    if path := _DRAWN_PATH.search(parts.path):
        source = path[1]
    else:
        source = parts.path.rpartition("/")[2]
        service = False  # its TeX is not in any known part of the path
    if path and "equation_images" in parts.path:
        source = unquote(source)
    source = unquote(_FILE_END.sub("", source))
    return _proven(source, service and path is not None)


def _proven(source: str, service: bool) -> str | None:
    source = strip_directives(source)
    if not source or (not service and not is_tex(source) and not _is_equation(source)):
        return None
    return source


def _is_equation(source: str) -> bool:
    """Whether a text without commands is still a formula: powers, indices or braces, and no words."""
    return len(source) <= 200 and re.search(r"[\w)}]\^[\w{(\\-]", source) is not None and not re.search(r"[A-Za-z]{3,}|[/?&:;~]", source)
