"""Converts AsciiMath to TeX, for pages that declare it (http://asciimath.org, section "Syntax").

E ::= I E | I / I          expression
I ::= S_S | S^S | S_S^S | S
S ::= v | l E r | u S | b S S
"""

from __future__ import annotations

import re

from mathquarry.data.extract.symbols import joined

_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau upsilon "
    "phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_SAME = (
    "sum prod int oint sin cos tan sec csc cot arcsin arccos arctan sinh cosh tanh log ln exp lim det dim gcd min max sup "
    "inf vdots ddots times div cdot cup cap in notin subset supset forall exists neg prop approx equiv cong sim perp angle "
    "triangle partial grad aleph hbar circ oplus otimes wedge vee ldots cdots quad star rightarrow leftarrow Rightarrow "
    "Leftarrow leftrightarrow Leftrightarrow infty"
)
_SYMBOLS = {
    **{name: f"\\{name}" for name in f"{_GREEK} {_SAME}".split()},
    "prop": r"\propto", "grad": r"\nabla", "del": r"\partial", "oo": r"\infty", "+-": r"\pm", "-+": r"\mp", "xx": r"\times", "-:": r"\div",
    "**": r"\ast", "***": r"\star", "//": "/", "@": r"\circ", "o+": r"\oplus", "ox": r"\otimes", "^^": r"\wedge", "vv": r"\vee",
    "nn": r"\cap", "uu": r"\cup", "!=": r"\ne", "ne": r"\ne", "lt": "<", "gt": ">", "<=": r"\le", "le": r"\le", ">=": r"\ge", "ge": r"\ge",
    "-<": r"\prec", ">-": r"\succ", "!in": r"\notin", "sub": r"\subset", "sup": r"\supset", "sube": r"\subseteq", "supe": r"\supseteq",
    "-=": r"\equiv", "~=": r"\cong", "~~": r"\approx", "~": r"\sim", "not": r"\neg", "=>": r"\Rightarrow", "<=>": r"\Leftrightarrow",
    "if": r"\text{if}", "or": r"\text{or}", "and": r"\text{and}", "AA": r"\forall", "EE": r"\exists", "_|_": r"\perp", "TT": r"\top",
    "|--": r"\vdash", "|==": r"\models", "->": r"\to", "to": r"\to", "|->": r"\mapsto", "larr": r"\leftarrow", "rarr": r"\rightarrow",
    "...": r"\ldots", ":.": r"\therefore", "/_": r"\angle", "O/": r"\emptyset", "CC": r"\mathbb{C}", "NN": r"\mathbb{N}",
    "QQ": r"\mathbb{Q}", "RR": r"\mathbb{R}", "ZZ": r"\mathbb{Z}", "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$",
}  # fmt: skip
_UNARY = {
    "sqrt": r"\sqrt{{{}}}", "abs": r"\left|{}\right|", "norm": r"\left\|{}\right\|", "floor": r"\lfloor {} \rfloor",
    "ceil": r"\lceil {} \rceil", "hat": r"\hat{{{}}}", "bar": r"\overline{{{}}}", "ul": r"\underline{{{}}}", "vec": r"\vec{{{}}}",
    "dot": r"\dot{{{}}}", "ddot": r"\ddot{{{}}}", "tilde": r"\tilde{{{}}}", "bb": r"\mathbf{{{}}}", "bbb": r"\mathbb{{{}}}",
    "cc": r"\mathcal{{{}}}", "fr": r"\mathfrak{{{}}}", "sf": r"\mathsf{{{}}}", "tt": r"\mathtt{{{}}}", "text": r"\text{{{}}}",
    "mbox": r"\text{{{}}}", "cancel": r"\cancel{{{}}}",
}  # fmt: skip
_BINARY = {
    "frac": r"\frac{{{}}}{{{}}}", "root": r"\sqrt[{}]{{{}}}", "stackrel": r"\overset{{{}}}{{{}}}", "overset": r"\overset{{{}}}{{{}}}",
    "underset": r"\underset{{{}}}{{{}}}",
}  # fmt: skip
_OPEN = {"(": "(", "[": "[", "{": r"\{", "(:": r"\langle ", "<<": r"\langle ", "{:": ""}
_CLOSE = {")": ")", "]": "]", "}": r"\}", ":)": r"\rangle ", ">>": r"\rangle ", ":}": ""}
_KNOWN = sorted({*_SYMBOLS, *_UNARY, *_BINARY, *_OPEN, *_CLOSE}, key=len, reverse=True)
_TOKEN = re.compile(
    r'\s*(?:"(?P<text>[^"]*)"|(?:text|mbox)\((?P<call>[^()]*)\)|(?P<number>\d+(?:\.\d+)?)|(?P<known>'
    + "|".join(map(re.escape, _KNOWN))
    + r")|(?P<other>\S))"
)
DEEPEST = 100
"""Levels of brackets; deeper ones are treated as plain signs."""


def to_tex(source: str) -> str:
    """TeX of an AsciiMath formula. Anything unknown is kept as it is, so this never fails."""
    return " ".join(_Parser(source).expression(closing=False).split())


class _Parser:
    def __init__(self, source: str) -> None:
        self._tokens = [_token(match) for match in _TOKEN.finditer(source)]
        self._place = 0
        self._depth = 0

    def _peek(self) -> str | None:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else None

    def _next(self) -> tuple[str, str]:
        self._place += 1
        return self._tokens[self._place - 1]

    def expression(self, closing: bool) -> str:
        parts: list[str] = []
        while (ahead := self._peek()) is not None and not (closing and ahead in _CLOSE):
            part = self._intermediate()
            if self._peek() == "/":
                self._next()
                below = self._intermediate() if self._peek() is not None else ""
                part = rf"\frac{{{_bare(part)}}}{{{_bare(below)}}}"
            parts.append(part)
        return joined(parts)

    def _intermediate(self) -> str:
        result = self._simple()
        for sign in ("_", "^"):
            if self._peek() == sign:
                self._next()
                script = _bare(self._simple()) if self._peek() is not None else ""
                result += f"{sign}{script}" if len(script) == 1 else f"{sign}{{{script}}}"
        return result

    def _simple(self) -> str:
        kind, token = self._next()
        if kind == "text":
            return rf"\text{{{token}}}"
        if kind == "number":
            return token
        if token in _OPEN and self._depth < DEEPEST:
            self._depth += 1
            inner = self.expression(closing=True)
            self._depth -= 1
            right = _CLOSE[self._next()[1]] if self._peek() in _CLOSE else ""
            return joined([_OPEN[token], inner, right])
        if token in _UNARY and self._may_go_on():
            return _UNARY[token].format(_bare(self._simple_within()))
        if token in _BINARY and self._may_go_on():
            first = _bare(self._simple_within())
            return _BINARY[token].format(first, _bare(self._simple_within()) if self._peek() is not None else "")
        return _SYMBOLS.get(token, _OPEN.get(token, _CLOSE.get(token, token)))

    def _may_go_on(self) -> bool:
        return self._peek() is not None and self._depth < DEEPEST

    def _simple_within(self) -> str:
        self._depth += 1
        result = self._simple()
        self._depth -= 1
        return result


def _token(match: re.Match[str]) -> tuple[str, str]:
    kind = match.lastgroup or "other"
    return ("text" if kind == "call" else kind, match[kind])


def _bare(tex: str) -> str:
    """Strip the brackets that only grouped an argument."""
    if tex.startswith(r"\{") and tex.endswith(r"\}") and r"\}" not in tex[2:-2]:
        return tex[2:-2]
    if len(tex) < 2 or tex[0] not in "([" or tex[-1] not in ")]":
        return tex
    depth = 0
    for place, character in enumerate(tex):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and place < len(tex) - 1:
            return tex
    return tex[1:-1]
