"""Segments of a page's text, which decontamination removes if it does not drop the whole page.

The paper removes "any text segment" with a benchmark's n-gram and does not say what a segment is. Ours is a block between
blank lines. A block of more than `longest` characters is split at line ends and after sentences, never inside `$...$`.
Joined again, the segments give exactly the original text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_BLOCK_END = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE_END = re.compile(r"\n\s*|(?<=[.!?])\s+|(?<=[。！？])\s*")
_DOLLAR = re.compile(r"(?<!\\)\$\$?")


def split_segments(text: str, longest: int) -> list[str]:
    """The segments of a text in order, each with the space that follows it."""
    return [segment for block in _split(text, _BLOCK_END) for segment in ([block] if len(block) <= longest else _sentences(block))]


def join_without(segments: list[str], removed: Iterable[int]) -> str:
    """The text without the segments at the positions `removed`, stripped of the white space they leave at its ends."""
    gone = set(removed)
    return "".join(segment for number, segment in enumerate(segments) if number not in gone).strip()


def _sentences(block: str) -> Iterator[str]:
    waiting = ""
    for piece in _split(block, _SENTENCE_END):
        waiting += piece
        if len(_DOLLAR.findall(waiting)) % 2 == 0:
            yield waiting
            waiting = ""
    if waiting:
        yield waiting


def _split(text: str, end: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for match in end.finditer(text):
        if match.end() > start:
            yield text[start : match.end()]
            start = match.end()
    if start < len(text):
        yield text[start:]
