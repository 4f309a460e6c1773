"""Benchmark decontamination (paper section 2.1): pages that quote a benchmark do not enter the corpus.

A page is dropped when it shares an n-gram of `ngram` (10) words with a benchmark question or solution, or holds a
whole benchmark text of 3 to 9 words. Departures and choices, where the paper is silent or departed from:

1. A gram is a lower-cased word or number, a single character in Chinese; punctuation and symbols do not count, so
   `$x$` and `\\(x\\)` match.
2. The whole page goes, where the paper speaks of a text segment.
3. Answers shorter than `ngram` words are matched with `short_answers` only: three-word answers occur in ordinary
   text.
4. An n-gram must have `distinct_words` (3) different words of two letters or more, or Chinese characters. Otherwise
   every page that counts from 1 to 10 quotes a benchmark that does. A longer text without any such n-gram is matched
   whole.
5. Training problems made from a held-out problem's template share its constant words. Where those run to `ngram`
   words, a page with a training problem is dropped too; the detail of each dropped page shows the words that matched.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.config import DecontaminationConfig
from data.files import atomic_path
from data.mine.hashing import Hashes, gram_hashes, token_hashes, words
from data.mine.pool import WorkerPool
from data.mine.shards import Mask, Pages, iter_texts
from data.problems.problem import Problem, read_problems

_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")
_HIT_SCHEMA = pa.schema([("row", pa.int64()), ("source", pa.string()), ("n", pa.int32()), ("detail", pa.string())])


@dataclass(frozen=True)
class BenchmarkText:
    """One text that must not occur in the corpus, as words."""

    source: str
    problem: str
    part: str
    words: tuple[str, ...]


class Hit(NamedTuple):
    """A page's first match: what matched, with how many words, and where the words come from."""

    text: BenchmarkText
    n: int
    quote: str

    @property
    def detail(self) -> str:
        """One line for the list of dropped pages."""
        return f"{self.text.source} {self.text.problem} {self.text.part}, {self.n}-gram: {self.quote}"


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


def read_benchmarks(problems: Path) -> list[Problem]:
    """The held-out problems of a problems artifact and its further benchmarks."""
    further = problems / "benchmarks.jsonl"
    found = read_problems(problems / "test.jsonl")
    return found + (read_problems(further) if further.exists() and further.stat().st_size else [])


class _Table(NamedTuple):
    """Grams of one n, sorted by hash: where each comes from, and how many words must be equal from its first on."""

    hashes: Hashes
    text: NDArray[np.int32]
    position: NDArray[np.int32]
    length: NDArray[np.int32]


class BenchmarkIndex:
    """The n-grams that no page may hold, by hash: 20 bytes a gram beside the words."""

    def __init__(self, texts: list[BenchmarkText], config: DecontaminationConfig) -> None:
        self.texts = texts
        grouped: dict[int, dict[tuple[int, int], tuple[int, int]]] = defaultdict(dict)
        for number, text in enumerate(texts):
            n = min(config.ngram, len(text.words))
            hashes = gram_hashes(token_hashes(text.words), n).tolist()
            grams = [text.words[at : at + n] for at in range(len(hashes))]
            telling = [at for at, gram in enumerate(grams) if n < config.ngram or _is_telling(gram, config.distinct_words)]
            # Of equal n-grams the first text's stands for all. A text without a telling n-gram is found by its first, and compared whole.
            for at in telling:
                grouped[n].setdefault((hashes[at], n), (number, at))
            if not telling:
                grouped[n].setdefault((hashes[0], len(text.words)), (number, 0))
        self._tables: dict[int, _Table] = {}
        for n in sorted(grouped, reverse=True):
            entries = sorted((value, number, at, length) for (value, length), (number, at) in grouped[n].items())
            values, numbers, places, lengths = zip(*entries, strict=True)
            self._tables[n] = _Table(
                np.asarray(values, dtype=np.uint64),
                np.asarray(numbers, dtype=np.int32),
                np.asarray(places, dtype=np.int32),
                np.asarray(lengths, dtype=np.int32),
            )

    def find(self, page: str) -> Hit | None:
        """The first match in a page, longest n first; None when there is none. A match of hashes counts only if the words are equal."""
        tokens = tuple(words(page))
        hashed = token_hashes(tokens)
        for n, table in self._tables.items():
            grams = gram_hashes(hashed, n)
            first = np.searchsorted(table.hashes, grams, side="left")
            last = np.searchsorted(table.hashes, grams, side="right")
            for start in np.flatnonzero(last > first).tolist():
                for entry in range(first[start], last[start]):
                    text, at, length = self.texts[table.text[entry]], int(table.position[entry]), int(table.length[entry])
                    if tokens[start : start + length] == text.words[at : at + length]:
                        return Hit(text, length, " ".join(tokens[start : start + length]))
        return None


def _is_telling(gram: tuple[str, ...], distinct_words: int) -> bool:
    """Whether an n-gram has enough different words to be a quotation: words of two letters or more, and Chinese characters."""
    return len({word for word in gram if not word[0].isdigit() and (len(word) > 1 or word >= "\u3040")}) >= distinct_words


def find_contaminated(
    pages: Pages, alive: Mask, problems: Path, config: DecontaminationConfig, folder: Path, pool: WorkerPool
) -> dict[int, tuple[str, int, str]]:
    """Scan the pages of `alive`: page position -> (benchmark, n, detail) of every page that quotes a benchmark.

    Finished shards are kept in `folder` and found again after a kill.
    """
    results = [folder / f"{number:06d}.parquet" for number in range(len(pages.shards))]
    jobs = [
        (shard, pages.rows_of(number, alive), problems, config, result)
        for number, (shard, result) in enumerate(zip(pages.shards, results, strict=True))
        if not result.exists()
    ]
    pool.run("compare with benchmarks", "shard", scan_shard, jobs)
    contaminated: dict[int, tuple[str, int, str]] = {}
    for first, result in zip(pages.first[:-1].tolist(), results, strict=True):
        for hit in pq.read_table(result).to_pylist():
            contaminated[first + hit["row"]] = (hit["source"], hit["n"], hit["detail"])
    return contaminated


def scan_shard(shard: Path, rows: Mask, problems: Path, config: DecontaminationConfig, result: Path) -> None:
    """Write the matches of one shard's pages: row within the shard's kept pages, benchmark, n, detail."""
    index = _load_index(problems, config)
    numbers = iter(np.flatnonzero(rows).tolist())
    found = []
    for texts in iter_texts(shard, rows):
        for text in texts:
            row = next(numbers)
            if hit := index.find(text):
                found.append({"row": row, "source": hit.text.source, "n": hit.n, "detail": hit.detail})
    with atomic_path(result) as temporary:
        pq.write_table(pa.Table.from_pylist(found, schema=_HIT_SCHEMA), temporary)


@lru_cache(maxsize=1)
def _load_index(problems: Path, config: DecontaminationConfig) -> BenchmarkIndex:
    return BenchmarkIndex(benchmark_texts(read_benchmarks(problems), config), config)
