"""The texts that must not occur in the corpus, and a search for them (paper section 2.1).

A page quotes a benchmark when it shares an n-gram of `ngram` (10) words with a question or solution, or contains a whole
benchmark text of 3 to 9 words. Our choices, where the paper is silent or we deviate from it:

1. A gram is a lower-cased word or number, a single character in Chinese; punctuation and symbols do not count, so
   `$x$` and `\\(x\\)` match (`hashing.words`). These do not match: traditional and simplified characters, numbers in
   words and digits, different LaTeX commands (`\\dfrac`, `\\frac`), synonyms and translations.
2. Answers shorter than `ngram` words are matched only with `short_answers`: three-word answers occur in ordinary
   text.
3. An n-gram must have `distinct_words` (3) different words of two letters or more, or Chinese characters. Otherwise
   every page that counts from 1 to 10 quotes a benchmark that does. A longer text without any such n-gram is matched
   whole.
4. Training problems made from a held-out problem's template share its constant words. If these reach `ngram` words in
   a row, a page with a training problem matches too; the quotation shows the matching words.
5. An n-gram that several benchmark texts share counts for the first of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.mine.config import DecontaminationConfig
from mathquarry.data.mine.pages.hashing import Hashes, token_hashes, words
from mathquarry.data.problems.problem import Problem, read_problems

_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS = (12, 26)


@dataclass(frozen=True)
class BenchmarkText:
    """One text that must not occur in the corpus, as words."""

    source: str
    problem: str
    part: str
    """`question`, `solution` or `answer`."""
    words: tuple[str, ...]


class Hit(NamedTuple):
    """A run of words shared with a benchmark: words `start` to `start + n` of the page."""

    text: BenchmarkText
    n: int
    start: int
    quote: str

    @property
    def detail(self) -> str:
        """One line for the list of dropped pages."""
        return f"{self.text.source} {self.text.problem} {self.text.part}, {self.n}-gram: {self.quote}"


def read_benchmarks(problems: Path) -> list[Problem]:
    """The held-out problems of a problems artifact and its further benchmarks."""
    further = problems / "benchmarks.jsonl"
    found = read_problems(problems / "test.jsonl")
    return found + (read_problems(further) if further.exists() and further.stat().st_size else [])


def benchmark_texts(problems: Iterable[Problem], config: DecontaminationConfig) -> list[BenchmarkText]:
    """Questions, answers and solutions as words, without those too short to match and short answers (unless `config.short_answers`)."""
    texts = []
    for problem in problems:
        parts = {"question": problem.question, "solution": _CALCULATOR_MARK.sub("", problem.solution), "answer": problem.answer}
        for part, text in parts.items():
            found = tuple(words(text))
            shortest = config.shortest if part == "question" or config.short_answers else config.ngram
            if len(found) >= shortest:
                texts.append(BenchmarkText(problem.source or "unnamed", problem.id, part, found))
    return texts


class _Table(NamedTuple):
    """Grams of one n, sorted by hash: where each comes from, and how many words must be equal from its first on."""

    hashes: Hashes
    text: NDArray[np.int32]
    position: NDArray[np.int32]
    length: NDArray[np.int32]
    filter: NDArray[np.bool_]
    """Whether any gram's hash begins with these bits: one lookup saves the binary search for most grams of a page."""
    shift: np.uint64

    @classmethod
    def build(cls, entries: dict[tuple[int, int], tuple[int, int]]) -> _Table:
        """`entries` maps (hash, words to compare) to (text, position)."""
        rows = np.asarray([(number, at, length) for (_, length), (number, at) in entries.items()], dtype=np.int32)
        hashes = np.fromiter((value for value, _ in entries), dtype=np.uint64, count=len(entries))
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0], hashes))
        least, most = _FILTER_BITS
        bits = min(most, max(least, (16 * len(entries)).bit_length()))
        shift = np.uint64(64 - bits)
        present = np.zeros(1 << bits, dtype=bool)
        present[hashes >> shift] = True
        number, at, length = (np.ascontiguousarray(column) for column in rows[order].T)
        return cls(hashes[order], number, at, length, present, shift)


class BenchmarkIndex:
    """The n-grams that no page may contain, by hash: 36 bytes per gram (including the filter) besides the words."""

    def __init__(self, texts: list[BenchmarkText], config: DecontaminationConfig) -> None:
        self.texts = texts
        self._ngram = config.ngram
        grouped: dict[int, dict[tuple[int, int], tuple[int, int]]] = defaultdict(dict)
        for number, text in enumerate(texts):
            n = min(config.ngram, len(text.words))
            (hashes,) = (grams.tolist() for length, grams in _all_grams(token_hashes(text.words), n) if length == n)
            whole = n < config.ngram
            telling = list(range(len(hashes))) if whole else _telling(text.words, n, config.distinct_words)
            # Equal n-grams count for the first text. A text without a distinctive n-gram is found by its first one, and compared whole.
            for at in telling:
                grouped[n].setdefault((hashes[at], n), (number, at))
            if not telling:
                grouped[n].setdefault((hashes[0], len(text.words)), (number, 0))
        self._tables = {n: _Table.build(entries) for n, entries in grouped.items()}

    def find(self, tokens: Sequence[str]) -> list[Hit]:
        """Every quotation in a page's words, longest n first, then in order. A match of hashes counts only if the words are equal."""
        hits: list[Hit] = []
        tokens = tuple(tokens)
        for n, grams in _all_grams(token_hashes(tokens), self._ngram):
            table = self._tables.get(n)
            if table is None:
                continue
            starts = np.flatnonzero(table.filter[grams >> table.shift])
            entries = np.searchsorted(table.hashes, grams[starts], side="left")
            equal = table.hashes[np.minimum(entries, len(table.hashes) - 1)] == grams[starts]
            for start, entry in zip(starts[equal].tolist(), entries[equal].tolist(), strict=True):
                hits += self._confirm(tokens, start, entry, int(grams[start]), table)
        return sorted(hits, key=lambda hit: (-hit.n, hit.start))

    def _confirm(self, tokens: tuple[str, ...], start: int, entry: int, value: int, table: _Table) -> Iterator[Hit]:
        while entry < len(table.hashes) and int(table.hashes[entry]) == value:
            text, at, length = self.texts[table.text[entry]], int(table.position[entry]), int(table.length[entry])
            if tokens[start : start + length] == text.words[at : at + length]:
                yield Hit(text, length, start, " ".join(tokens[start : start + length]))
            entry += 1


def _all_grams(hashes: Hashes, longest: int) -> Iterator[tuple[int, Hashes]]:
    """(n, hashes of all n-grams) for n = 1 to `longest`, each from the one before: a polynomial in wrapping 64-bit arithmetic."""
    grams = hashes.copy()
    for n in range(1, min(longest, len(hashes)) + 1):
        if n > 1:
            grams = grams[:-1] * _MULTIPLIER + hashes[n - 1 :]
        yield n, grams


def _telling(text: tuple[str, ...], n: int, distinct_words: int) -> list[int]:
    """Start positions of n-grams with enough different words for a quotation: words of two letters or more, and Chinese characters."""
    marks = [word if not word[0].isdigit() and (len(word) > 1 or word >= "\u3040") else "" for word in text]
    found = []
    for at in range(len(text) - n + 1):
        seen: set[str] = set()
        for mark in marks[at : at + n]:
            if mark:
                seen.add(mark)
            if len(seen) >= distinct_words:
                found.append(at)
                break
    return found
