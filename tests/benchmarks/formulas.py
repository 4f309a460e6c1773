"""The formulas in a page's source, and how many of them an extracted text still contains.

Written without a line of the extractor that it measures: the standard library's HTML parser, and its own idea of what
is typed. Only formulas whose TeX the source states are counted: annotations and `alttext` of MathML, `math/tex`
scripts, alternative texts of formula images, delimiters in running text. One normaliser serves all extractors.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

_INLINE = {
    *("a", "abbr", "annotation", "b", "big", "bdi", "cite", "del", "dfn", "em", "font", "i", "ins", "label", "mark", "math", "nobr", "q"),
    *("s", "semantics", "small", "span", "strike", "strong", "sub", "sup", "time", "u", "var", "wbr"),
}
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
_UNSEEN = {
    "script",
    "style",
    "pre",
    "code",
    "kbd",
    "samp",
    "tt",
    "textarea",
    "select",
    "option",
    "title",
    "noscript",
    "svg",
    "button",
    "nav",
}
# What a renderer drew: its source stands beside it, in a script or an annotation.
_DRAWN = re.compile(r"(?:^|\s)(?:katex-html|MathJax(?:_\w+)?|MJX\S*|mjx-\S*)(?:\s|$)")
_IMAGE_CLASS = re.compile(r"(?:^|\s)(?:tex|latex|ql-img-\S+-formula|mwe-math-fallback-image-\S*)(?:\s|$)")
_IMAGE_SOURCE = re.compile(r"latex\.php|codecogs\.com|mi[mn]etex|mathtex|tex\.cgi|latex\.cgi|cht=tx")

_ENVIRONMENTS = "equation|align|alignat|gather|multline|eqnarray|flalign|displaymath|math"
_TYPED = re.compile(
    rf"\\begin\{{(?P<name>(?:{_ENVIRONMENTS})\*?)\}}(?P<environment>.{{1,4000}}?)\\end\{{(?P=name)\}}"
    r"|(?<!\\)\$\$(?P<dollars>[^$]{1,4000})\$\$"
    r"|(?<!\\)\\\[(?P<bracket>.{1,4000}?)\\\]"
    r"|(?<!\\)\\\((?P<paren>.{1,4000}?)\\\)"
    r"|(?<![\\$\w])\$(?P<dollar>[^$\s](?:[^$\n]{0,1000}[^$\s\\])?)\$(?![\d$])",
    re.DOTALL,
)
_SINGLE_DOLLAR = re.compile(r"[\\^_={}<>]|^\W*[A-Za-z]\W*$|^[-+]?\d+$")
_RENDERER = re.compile(r"(?i)mathjax|katex|tex2jax|latex")
_LEAST_BARE = 8
"""Fewest characters of a normalised formula that is recognised without delimiters."""


def source_formulas(html: str) -> list[str]:
    """TeX of every formula that the page's source has as TeX, in order, with repetitions.

    A pair of single dollars counts only on a page that names a renderer.
    """
    parser = _Source(_RENDERER.search(html) is not None)
    parser.feed(html)
    parser.close()
    parser.flush()
    return [tex for tex in parser.found if normalised(tex)]


def kept_formulas(text: str, formulas: list[str]) -> int:
    """How many of a page's formulas an extracted text contains, each occurrence counted once.

    A formula is there when the text has it between delimiters, or, if it is long enough to be no accident, without.
    """
    wanted = Counter(map(normalised, formulas))
    delimited = Counter(normalised(tex) for tex in _typed(text, strict=False))
    bare = normalised(text)
    kept = 0
    for formula, count in wanted.items():
        inside = delimited[formula]
        if inside < count and len(formula) >= _LEAST_BARE and any(sign in formula for sign in "\\^_="):
            inside = max(inside, bare.count(formula))
        kept += min(inside, count)
    return kept


_COMMENT = re.compile(r"(?<!\\)%[^\n]*(?:\n|$)")
_NEW_LINE = "\ue010"  # so that no rule takes the second backslash for the beginning of a command
_SAME = (
    (re.compile(r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|[bB]igg?[lrm]?)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:label|tag\*?)\s*\{[^{}]*\}"), ""),
    (re.compile(r"\\(?:[,;:! ]|q?quad(?![A-Za-z])|nonumber|notag)"), ""),
    (re.compile(r"\\(?:begin|end)\s*\{(?:equation|displaymath|math)\*?\}"), ""),
    (re.compile(r"\\(le|ge|ne)q(?![A-Za-z])"), r"\\\1"),
    (re.compile(r"\\(?:operatorname|mathrm|rm|text|textrm|mbox|hbox)\*?(?![A-Za-z])"), ""),
    (re.compile(r"\\([_<>#*&])"), r"\1"),  # what Markdown writers escape
    (re.compile(r"\\dfrac|\\tfrac"), r"\\frac"),
)
_DELIMITERS = re.compile(r"^(?:\$\$?|\\[(\[])|(?:\$\$?|\\[)\]])$")


def normalised(tex: str) -> str:
    """A spelling that all extractors can produce: no spaces, braces, outer delimiters, sizes or labels; one name for synonyms."""
    tex = " ".join(_COMMENT.sub("", tex).split()).replace("\\\\", _NEW_LINE)
    while (inner := _DELIMITERS.sub("", tex).strip()) != tex:
        tex = inner
    for pattern, replacement in _SAME:
        tex = pattern.sub(replacement, tex)
    return re.sub(r"[{}\s\u200b\ufeff]", "", tex)


def _typed(text: str, *, strict: bool, dollars: bool = True) -> list[str]:
    found = []
    for match in _TYPED.finditer(text):
        kind, tex = next((kind, tex) for kind, tex in match.groupdict().items() if tex is not None and kind != "name")
        if kind == "environment":
            name = match["name"]
            found.append(tex if name.rstrip("*") in ("equation", "displaymath", "math") else f"\\begin{{{name}}}{tex}\\end{{{name}}}")
        elif kind != "dollar" or (dollars and (not strict or (_SINGLE_DOLLAR.search(tex) and not tex.endswith("(")))):
            found.append(tex)
    return found


class _Source(HTMLParser):
    """Collects `found`; text between block tags is searched for typed formulas as one piece."""

    def __init__(self, dollars: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._dollars = dollars
        self.found: list[str] = []
        self._text: list[str] = []
        self._skipped: list[str] = []  # open tags, from the one whose content is not read
        self._script = ""
        self._math: str | None = None
        """State of the open `<math>` element: empty if nothing is known yet."""
        self._annotation = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if self._skipped:
            if tag not in _VOID:
                self._skipped.append(tag)
            return
        name = tag.rpartition(":")[2]
        if name == "math":
            self._math = values.get("alttext", "")
        elif name == "annotation" and "tex" in values.get("encoding", "").lower():
            self._annotation, self._math = True, ""
        elif tag == "script":
            self._script = values.get("type", "").replace(" ", "").lower()
            self._skipped.append(tag)
        elif tag == "img" and self._math is None:
            alternative, address = values.get("alt", ""), values.get("src", "")
            known = _IMAGE_SOURCE.search(address) or _IMAGE_CLASS.search(values.get("class", ""))
            drawn_beside = "mwe-math-fallback" in values.get("class", "") and self._beside_math
            if known and alternative and not drawn_beside and re.search(r"[\\^_=\d]|^\W*\w\W*$", alternative):
                self.found.append(alternative)
        elif tag in _UNSEEN or _DRAWN.search(values.get("class", "")):
            self._skipped.append(tag)
        if tag not in _INLINE and tag != "img":
            self.flush()

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            if tag in self._skipped:
                del self._skipped[len(self._skipped) - 1 - self._skipped[::-1].index(tag) :]
            return
        name = tag.rpartition(":")[2]
        if name == "annotation":
            self._annotation = False
        elif name == "math" and self._math is not None:
            if self._math.strip():
                self.found.append(self._math)
            self._beside_math, self._math = True, None
        if tag not in _INLINE:
            self.flush()

    _beside_math = False

    def handle_data(self, data: str) -> None:
        if self._skipped:
            if len(self._skipped) == 1 and self._script.startswith("math/tex") and self._skipped[0] == "script":
                self.found.append(data)
            return
        if self._annotation:
            self._math = (self._math or "") + data
        elif self._math is None:
            self._text.append(data)

    def flush(self) -> None:
        """Search the collected text."""
        if self._text:
            self.found += _typed("".join(self._text), strict=True, dollars=self._dollars)
            self._text = []
            self._beside_math = False
