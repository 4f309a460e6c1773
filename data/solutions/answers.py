r"""The final answer of a solution: what stands in its last `\boxed{}`."""

from __future__ import annotations

import re

_BOXED = re.compile(r"\\boxed\s*\{")


def extract_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces balance, without surrounding space; `None` where there is none.

    Escaped braces (`\{`) do not count as braces. An empty box is an empty answer.
    """
    for match in reversed(list(_BOXED.finditer(text))):
        content = braced(text, match.end())
        if content is not None:
            return content.strip()
    return None


def braced(text: str, start: int) -> str | None:
    """The text from `start`, just after an opening brace, up to the brace that closes it; `None` when none does."""
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[start:position]
        position += 1
    return None
