r"""The final answer of a solution: what stands in its last `\boxed{}`, or in several that belong together."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_JOINT = re.compile(r"(?:\s|\$|,|;|，|；|、|和|\band\b|\\text\{\s*,?\s*and\s*\}|\\q?quad(?![a-zA-Z])|\\[,;: ])*")


def extract_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces balance, without surrounding space; `None` where there is none.

    Boxes with nothing but commas or `and` between them are one answer: `\boxed{1} and \boxed{2}` is `1, 2`. Escaped braces (`\{`) do not
    count as braces. An empty box is an empty answer. One pass, so that a text of nothing but open boxes costs no more than another.
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
        elif piece[0].startswith("\\boxed"):
            opened.append((piece.start(), piece.end()))
        elif piece[0] == "{":
            opened.append(None)
    if not boxes:
        return None
    answers = [boxes[-1][2]]
    for (_, end, answer), (begin, _, _) in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        between = text[end:begin]
        if not between.strip() or not _JOINT.fullmatch(between):
            break
        answers.append(answer)
    return ", ".join(reversed(answers))
