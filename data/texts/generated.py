"""Generated texts of four kinds, for experiments on a laptop, in place of general web pages, mathematical ones, code and papers at scale.

They supplement the mini-web as other sources supplement a crawl. General and mathematical texts are the mini-web's page contents before
they become HTML, drawn with another seed, so they also serve as held-out text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Literal, get_args

from mathquarry.data.crawl.miniweb_document import Document, Heading, Tex
from mathquarry.data.crawl.miniweb_math import FORMULA_VOICES, PLAIN_VOICES, ExerciseBook, HeldOut, math_document
from mathquarry.data.crawl.miniweb_topics import TOPICS, topic_document
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.config import GeneratedProblems
from mathquarry.data.problems.generated import generate_problems

TextKind = Literal["general", "mathematics", "code", "papers"]

GENERATED_PREFIX = "generated:"
"""Prefix of such a source: `generated:KIND` or `generated:KIND:SEED`."""

DOCUMENTS = 4000
"""Texts per kind: about four million characters, or one million of code."""


def generated_texts(kind: str, seed: int, documents: int = DOCUMENTS) -> Iterator[str]:
    """`documents` texts of a `TextKind`, always the same for a seed. Raises `MathQuarryError` for another kind."""
    if kind not in _WRITERS:
        raise MathQuarryError(f"there are no generated texts of kind {kind!r}. Known kinds: {', '.join(get_args(TextKind))}.")
    rng = random.Random(f"texts/{kind}/{seed}")
    return _WRITERS[kind](rng, documents)


def plain_text(document: Document) -> str:
    """A page's text, with formulas between dollars."""
    blocks = [document.title]
    for block in document.blocks:
        if isinstance(block, Heading):
            blocks.append(block.text)
        else:
            lines = ("".join(f"${part.source}$" if isinstance(part, Tex) else part for part in line) for line in block.lines)
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _general(rng: random.Random, documents: int) -> Iterator[str]:
    return (plain_text(topic_document(rng.choice(TOPICS), rng)) for _ in range(documents))


def _mathematics(rng: random.Random, documents: int) -> Iterator[str]:
    train, test = generate_problems(GeneratedProblems(train=1000, test=10, largest=6), rng.randrange(2**31))
    book = ExerciseBook(train, HeldOut(test), rng)
    voices = (*FORMULA_VOICES, *PLAIN_VOICES)
    return (plain_text(math_document(book, rng.choice(voices), number, None)) for number in range(documents))


_THINGS = ("apples", "books", "pens", "cards", "coins", "shells", "stones", "stamps", "balls", "cups", "eggs", "nuts", "plums", "keys")
_VERBS = {"+": ("add", "collect", "receive"), "-": ("remove", "sell", "spend")}


def _code(rng: random.Random, documents: int) -> Iterator[str]:
    return ("\n\n\n".join(rng.choice((_script, _function, _loop))(rng) for _ in range(rng.randint(2, 4))) for _ in range(documents))


def _script(rng: random.Random) -> str:
    thing, value = rng.choice(_THINGS), rng.randint(2, 9)
    lines = [f"{thing} = {value}"]
    for _ in range(rng.randint(1, 3)):
        sign = rng.choice("+-") if value > 3 else "+"
        number = rng.randint(1, value - 1 if sign == "-" else 6)
        value = value + number if sign == "+" else value - number
        lines.append(f"{thing} = {thing} {sign} {number}  # {value}")
    return "\n".join([*lines, f"print({thing})"])


def _function(rng: random.Random) -> str:
    thing, sign = rng.choice(_THINGS), rng.choice("+-")
    name = f"{rng.choice(_VERBS[sign])}_{thing}"
    lines = [
        f"def {name}({thing}, number):",
        f'    """Return how many {thing} there are then."""',
        f"    return {thing} {sign} number",
        "",
        "",
    ]
    for _ in range(rng.randint(1, 3)):
        left, right = sorted((rng.randint(2, 12), rng.randint(2, 12)), reverse=True)
        lines.append(f"assert {name}({left}, {right}) == {left + right if sign == '+' else left - right}")
    return "\n".join(lines)


def _loop(rng: random.Random) -> str:
    thing, numbers = rng.choice(_THINGS), [rng.randint(1, 6) for _ in range(rng.randint(2, 3))]
    return "\n".join(["total = 0", f"for {thing} in {numbers}:", f"    total += {thing}", f"print(total)  # {sum(numbers)}"])


_PAPER_WORDS = {
    "space": ("a compact manifold", "a Banach space", "a finite group", "a smooth curve", "a Hilbert space", "a projective variety"),
    "property": ("separable", "nilpotent", "of finite type", "uniformly convex", "simply connected", "torsion free"),
    "map": ("continuous map", "linear operator", "homomorphism", "proper morphism", "bounded functional", "flow"),
    "result": ("extends uniquely", "has a fixed point", "is bounded below", "factors through a quotient", "vanishes on the boundary"),
    "tool": ("a spectral sequence", "a priori estimates", "the maximum principle", "descent", "a covering argument", "induction"),
    "formula": (r"\int_M f \, d\mu", r"\| T x \| \le C \| x \|", r"H^{i}(X, F)", r"\lim_{k \to \infty} a_k", r"\sum_{g} \chi(g)"),
}
_PAPER_SENTENCES = (
    "Let $X$ be {space} that is {property}.",
    "We show that every {map} on $X$ {result}.",
    "The proof uses {tool} and the estimate ${formula}$.",
    r"\begin{{theorem}} If $X$ is {property}, then every {map} $f$ {result}. \end{{theorem}}",
    r"\begin{{lemma}} For {space} the quantity ${formula}$ is finite. \end{{lemma}}",
    "This extends a result on {space}, where {tool} was used.",
    "When $X$ is not {property}, the claim fails, as an example with {space} shows.",
    "In the last section we study ${formula}$ by {tool}.",
)


def _papers(rng: random.Random, documents: int) -> Iterator[str]:
    for _ in range(documents):
        parts = [rf"\section{{On a {rng.choice(_PAPER_WORDS['map'])} of {rng.choice(_PAPER_WORDS['space'])}}}"]
        for _ in range(rng.randint(2, 4)):
            sentences = [
                sentence.format(**{name: rng.choice(words) for name, words in _PAPER_WORDS.items()})
                for sentence in rng.sample(_PAPER_SENTENCES, rng.randint(3, 6))
            ]
            parts.append(" ".join(sentences))
        yield "\n\n".join(parts)


_WRITERS: dict[str, Callable[[random.Random, int], Iterator[str]]] = {
    "general": _general,
    "mathematics": _mathematics,
    "code": _code,
    "papers": _papers,
}
