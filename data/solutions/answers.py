r"""The final answer of a solution, read in two ways that are never mixed.

The strict reading, `extract_answer`, is what rewards, labels and training use: the last `\boxed{}`, or several that belong together. The
lenient one, `lenient_answer`, reads solutions without a box too, as many published evaluations do; evaluation reports both, side by side.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\(?:boxed|fbox)(?![a-zA-Z{])|\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"\s*(\\(?:d|t|c)?frac\s?\{[^{}]{1,40}\}\s?\{[^{}]{1,40}\}|\\?[^\s\\{}$]+)")
_JOINT_LENGTH = 60
"""Characters between boxes of one answer; what is longer is prose."""
_SPACE = r"(?:\s|\$|~|\\[,;:! ]|\\q?quad(?![a-zA-Z])|\\[()\[\]])"
_WORD = r"(?:,|;|，|；|、|和|与|或|或者|\band\b|\bor\b|\\text\s?\{[\s,]{0,9}(?:and|or)\s{0,9}\}|\\(?:lor|land|vee|wedge)(?![a-zA-Z]))"
_JOINT = re.compile(rf"{_SPACE}*(?:{_WORD}{_SPACE}*)*(?:[A-Za-z](?:_\{{?\w\}}?)?{_SPACE}*={_SPACE}*)?")
_OR = re.compile(r"\bor\b|或|\\lor|\\vee")


def extract_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces balance, without surrounding space; `None` where there is none.

    Boxes with nothing but commas, `and` or `or` between them are one answer, and so are boxes side by side: `\boxed{1} and \boxed{2}` and
    `\boxed{1}\boxed{2}` are `1, 2`; `\boxed{1} or \boxed{2}` keeps its `or`. A letter may name each: `x=\boxed{1}, y=\boxed{2}`. Escaped
    braces (`\{`) do not count as braces. `\fbox{}` is a box; `\boxed 42` holds what follows up to a space. An empty box counts only where
    there is no other. One pass, so that a text of nothing but open boxes costs no more than another.
    """
    # Each brace that is still open: where its box begins and where the content starts, or None for a brace that opens no box.
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
        if len(between) > _JOINT_LENGTH or not _JOINT.fullmatch(between) or (not between.strip() and "\n" in between):
            break
        if between.strip(" $") or content != answer:
            answer = f"{content} \\text{{ or }} {answer}" if _OR.search(between) else f"{content}, {answer}"
        begin = start
    return answer


_MARKER = re.compile(
    r"(?:final answer|answer|result|solution)\s{0,3}(?:is|are|was|equals|=|:|\*\*:|：)"
    r"|答案\s{0,3}(?:是|为|：|:)|结果\s{0,3}(?:是|为)|故选|应选|选择|####",
    re.IGNORECASE,
)
_MATH = re.compile(r"(?<!\\)\$\$?([^$]{1,1000}?)\$\$?|\\\(([^\n]{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]", re.DOTALL)
_NUMBER = re.compile(
    r"[-−+]?(?:[$￥¥€£]\s?)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+|\s\d+/\d+)?(?:[eE][-+]?\d+)?\s?(?:\\?%)?|[-−+]?\.\d+"
)
_CHOICE = re.compile(r"\(?([A-J])\)?(?![A-Za-z])")
_TAIL = 2000
"""Characters at the end of an output in which the lenient reading looks."""


def lenient_answer(text: str) -> str | None:
    r"""The answer that a reader would find: the box where there is one, else what stands behind `answer is`, else at the end.

    After the last "answer is", "answer:", 答案是, 答案为, 故选 or `####`: the first formula between dollar signs or `\( \)`, else a
    choice A to J, else the last number of that sentence, else its words. Without such a mark, the last line counts: its last formula, the
    right side of its last equation, or its last number. `None` where there is nothing of the kind.
    """
    boxed = extract_answer(text)
    if boxed:
        return boxed
    text = text[-_TAIL:]
    marks = list(_MARKER.finditer(text))
    if marks:
        found = _after_mark(text[marks[-1].end() :])
        if found:
            return found
    lines = [line for line in text.splitlines() if line.strip()]
    return _ending(lines[-1]) if lines else None


def _after_mark(rest: str) -> str | None:
    rest = rest.lstrip(" :：*\n")
    sentence = re.split(r"(?<!\d)\.(?=\s|$)|(?<=\d)\.(?=\s|$)|[。！!\n]", rest, maxsplit=1)[0].strip(" *") or rest.split("\n", 1)[0].strip()
    if formula := _formulas(sentence):
        return formula[0]
    if choice := _CHOICE.match(sentence):
        return choice[1]
    if "=" in sentence:
        return sentence.rpartition("=")[2].strip() or None
    if re.fullmatch(r"[^A-Za-z\u4e00-\u9fff]*|.*\\.*", sentence) and sentence:
        return sentence
    numbers = _NUMBER.findall(sentence)
    if numbers:
        return numbers[-1].strip()
    return sentence or None


def _ending(line: str) -> str | None:
    if formula := _formulas(line):
        return formula[-1]
    if "=" in line:
        right = line.rpartition("=")[2].strip(" .。*")
        if right:
            return right
    numbers = _NUMBER.findall(line)
    if numbers:
        return numbers[-1].strip()
    choice = re.fullmatch(r"\W*\(?([A-J])\)?\W*", line)
    return choice[1] if choice else None


def _formulas(text: str) -> list[str]:
    found = [next(group for group in match.groups() if group is not None).strip() for match in _MATH.finditer(text)]
    return [formula for formula in found if formula]
