r"""The final answer of a solution: what stands in its last `\boxed{}`."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def extract_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces balance, without surrounding space; `None` where there is none.

    Escaped braces (`\{`) do not count as braces. An empty box is an empty answer.
    One pass, so that a text of nothing but open boxes costs no more than another.
    """
    # Each brace that is still open: where the box's content starts, or None for a brace that opens no box.
    opened: list[int | None] = []
    last: tuple[int, str] | None = None
    for piece in _PIECE.finditer(text):
        if piece[0] == "}":
            start = opened.pop() if opened else None
            if start is not None and (last is None or start > last[0]):
                last = (start, text[start : piece.start()])
        elif piece[0].startswith("\\boxed"):
            opened.append(piece.end())
        elif piece[0] == "{":
            opened.append(None)
    return last[1].strip() if last else None
