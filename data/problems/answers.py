r"""Reads the final answer of a solution, in two ways that are never mixed.

The strict reading, `extract_answer`, is used by rewards, labels and training: the last `\boxed{}`, or several that belong together. The
lenient one, `lenient_answer`, also reads solutions without a box, as many published evaluations do. Evaluation reports both.
"""

from __future__ import annotations

import re
from itertools import pairwise

_PIECE = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\(?:boxed|fbox)(?![a-zA-Z{])|\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"\s*(\\(?:d|t|c)?frac\s?\{[^{}]{1,40}\}\s?\{[^{}]{1,40}\}|\\?[^\s\\{}$]+)")
_JOINT_LENGTH = 60
"""Maximum characters between boxes of one answer. Longer text is prose."""
_SPACE = r"(?:\s|\$|~|\\[,;:! ]|\\q?quad(?![a-zA-Z])|\\[()\[\]])"
_WORD = r"(?:,|;|，|；|、|和|与|或|或者|\band\b|\bor\b|\\text\s?\{[\s,]{0,9}(?:and|or)\s{0,9}\}|\\(?:lor|land|vee|wedge)(?![a-zA-Z]))"
_JOINT = re.compile(rf"{_SPACE}*(?:{_WORD}{_SPACE}*)*(?:[A-Za-z](?:_\{{?\w\}}?)?{_SPACE}*={_SPACE}*)?")
_OR = re.compile(r"\bor\b|或|\\lor|\\vee|^[\s$]*/[\s$]*$")
_HEDGE = re.compile(r"[^.。!！?？\n]*")
"""Text allowed between two boxes in addition to an "or": words of one sentence."""
_RESTATES = re.compile(r"equivalent|that is|i\.e\.|simplif|in other words|which is|也就是|即", re.IGNORECASE)


def extract_answer(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` with balanced braces, without surrounding space; `None` if there is none.

    Boxes separated only by commas, `and` or `or` are one answer, and so are adjacent boxes: `\boxed{1} and \boxed{2}` and
    `\boxed{1}\boxed{2}` are `1, 2`; `\boxed{1} or \boxed{2}` keeps its `or`, even with a few more words such as `or perhaps`. If the second
    box only restates the first (`or equivalently`), only the second counts. A letter can name each: `x=\boxed{1}, y=\boxed{2}`. Escaped
    braces (`\{`) do not count as braces. `\fbox{}` is a box; `\boxed 42` contains the text up to a space. An empty box counts only if
    there is no other. The text is read once, so that many open boxes do not make it slow.
    """
    # Each open brace: where its box and its content start, or None if the brace does not open a box.
    opened: list[tuple[int, int] | None] = []
    boxes: list[tuple[int, int, str]] = []  # outermost boxes: begin, end, content
    for piece in _PIECE.finditer(text):
        if piece[0] == "}":
            box = opened.pop() if opened else None
            if box is not None:
                begin, start = box
                nested = boxes and boxes[-1][0] > begin
                if not nested:
                    boxes.append((begin, piece.end(), text[start : piece.start()].strip()))
        elif piece[0] == "{":
            opened.append(None)
        elif piece[0].endswith("{") and piece[0] != "\\{":
            opened.append((piece.start(), piece.end()))
        elif piece[0].startswith(("\\boxed", "\\fbox")) and (word := _UNBRACED.match(text, piece.end())):
            answer = word[1].rstrip(".,;")
            if answer:
                boxes.append((piece.start(), word.end(), answer))
    filled = [box for box in boxes if box[2]]
    if not filled:
        return "" if boxes else None
    answer, begin = filled[-1][2], filled[-1][0]
    for start, end, content in filled[-2::-1]:
        between = text[end:begin]
        if len(between) > _JOINT_LENGTH or (not between.strip() and "\n" in between):
            break
        if not _JOINT.fullmatch(between) and (not _OR.search(between) or not _HEDGE.fullmatch(between) or _RESTATES.search(between)):
            break
        if between.strip(" $") or content != answer:
            answer = f"{content} \\text{{ or }} {answer}" if _OR.search(between) else f"{content}, {answer}"
        begin = start
    return answer


_MARKER = re.compile(
    r"(?:final answer|answer|result|solution|choice|option)\s{0,3}(?:is|are|was|equals|=|:|\*\*:|：)"
    r"|答案\s{0,3}(?:应?[是为选]|：|:)|【答案】|(?:^|[\s。）)])答\s?[:：]|结果\s{0,3}[是为]|[故应因此所以，。]\s{0,3}选择?|选择|####",
    re.IGNORECASE,
)
_MATH = re.compile(r"(?<!\\)\$\$?([^$]{1,1000}?)\$\$?|\\\(([^\n]{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]", re.DOTALL)
_NUMBER = re.compile(
    r"\d{1,2}:\d\d(?:\s?[AaPp]\.?[Mm]\b\.?)?|"
    r"[-−+]?(?:[$￥¥€£]\s?)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+|\s\d+/\d+)?(?:[eE][-+]?\d+)?(?:√\d+)?(?:\s?π(?:\s?/\s?\d+)?)?\s?(?:\\?%)?|[-−+]?\.\d+"
)
_CHOICE = re.compile(r"(?:(?i:option|choice)\s{0,3}|选项?\s{0,3})?\(?([A-J])\)?(?![A-Za-z])")
_WORDS = re.compile(r"[A-Za-z]{2,}|[\u4e00-\u9fff]")
_NOTATION = frozenset(["sqrt", "pi", "sin", "cos", "tan", "log", "ln", "or", "and", "或", "和"])
"""Words that occur in formulas."""
_EMPTY_BOX = re.compile(r"\$?\\(?:boxed|fbox)\s?\{\s{0,9}\}\$?")
_TAIL = 2000
"""Number of characters at the end of a completion that the lenient reading searches."""


def lenient_answer(text: str) -> str | None:
    r"""Return the answer that a reader would find: the box if there is one, else the text after `answer is`, else at the end.

    After the last "answer is", "answer:", 答案是, 答案为, 故选 or `####`: the first formula between dollar signs or `\( \)`, else a
    choice A to J, else the last number of that sentence, else its words. Without such a mark, the last line is used: its last formula, the
    right side of its last equation, or its last number. Formulas or numbers with an "or" between them are one answer, as boxes are.
    `None` if nothing is found.
    """
    boxed = extract_answer(text)
    if boxed:
        return boxed
    text = _EMPTY_BOX.sub(" ", text[-_TAIL:])
    marks = list(_MARKER.finditer(text))
    if marks:
        found = _after_mark(text[marks[-1].end() :])
        if found:
            return found
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("```")]
    if lines and lines[-1].strip(" .。") in (r"\]", "$$"):  # a formula of several lines
        return next(iter(_formulas(text)[::-1]), None)
    return _ending(lines[-1]) if lines else None


def _after_mark(rest: str) -> str | None:
    rest = rest.lstrip(" :：*\n")
    sentence = re.split(r"(?<!\d)\.(?=\s|$)|(?<=\d)\.(?=\s|$)|[。！!\n]", rest, maxsplit=1)[0].strip(" *") or rest.split("\n", 1)[0].strip()
    if formula := _formulas(sentence):
        return _hedged(sentence, formula) or _listed(sentence) or formula[0]
    if choice := _CHOICE.match(sentence):
        return choice[1] if not _OR.search(sentence) else sentence
    if "=" in sentence and (right := _right_side(sentence)):
        return right
    bare = re.sub(r"^(?:an?|the|about|approximately)\s", "", sentence)
    if bare and ("\\" in bare or set(_WORDS.findall(bare.lower())) <= _NOTATION):
        return bare
    numbers = _numbers(sentence)
    if numbers:
        return _hedged(sentence, numbers) or numbers[-1]
    return sentence or None


def _ending(line: str) -> str | None:
    if formula := _formulas(line):
        return _hedged(line, formula) or formula[-1]
    if "=" in line and (right := _right_side(line)):
        return right
    numbers = _numbers(line)
    if numbers:
        return _hedged(line, numbers) or numbers[-1]
    choice = re.fullmatch(r"\W*\(?([A-J])\)?\W*", line)
    return choice[1] if choice else None


def _right_side(line: str) -> str:
    """Return the right side of the last equation in a line; with an "or", of each equation."""
    return r" \text{ or } ".join(part.rpartition("=")[2].strip(" .。*,，$") for part in _OR.split(line))


def _hedged(sentence: str, found: list[str]) -> str | None:
    """Return several answers with an "or" between them; None otherwise. `$1$ or $2$` must not be correct for 2 alone."""
    return r" \text{ or } ".join(found) if len(found) > 1 and _OR.search(_MATH.sub(" ", sentence)) else None


def _listed(sentence: str) -> str | None:
    """Return formulas separated only by commas or "and" as one list, starting at the first: `$1$ and $2$`; None for a single one."""
    found = list(_MATH.finditer(sentence))
    parts = [_inner(found[0])]
    for before, formula in pairwise(found):
        if not _JOINT.fullmatch(sentence[before.end() : formula.start()]) or formula.start() == before.end():
            break
        parts.append(_inner(formula))
    return ", ".join(parts) if len(parts) > 1 else None


def _numbers(text: str) -> list[str]:
    return [number.strip() for number in _NUMBER.findall(text)]


def _formulas(text: str) -> list[str]:
    return [formula for formula in map(_inner, _MATH.finditer(text)) if formula]


def _inner(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None).strip()
