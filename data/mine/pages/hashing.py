"""Words of a text and 64-bit hashes of its n-grams, vectorized, for near-duplicate removal and decontamination.

Neither tokenizer folds numbers or joins lines: "2 + 3 = 5" and "4 + 7 = 11" must stay different.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts written without spaces: every character is a word (kana, CJK ideographs, and their compatibility block).
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTER = rf"[^\W\d_{UNSPACED}]"
_WORD = re.compile(rf"\d+(?:\.\d+)?|[^\W\d_{UNSPACED}]+|[{UNSPACED}]")
_THOUSANDS = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))")  # the comma first, since searching for it is fast

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_CACHE_LIMIT = 1_000_000


def shingle_hashes(text: str) -> Hashes:
    """Hashes of the tokens that shingles are made of: lower-cased runs of letters, and every other visible character by itself.

    Digits and symbols are such characters. The whole text is one array of code points, and no string is created per token.
    A token's hash is that of the polynomial of its code points, computed from the running sum over the text by dividing out
    the powers before the token.
    """
    codes = np.frombuffer(text.lower().encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds()[codes]
    joined = (kinds[1:] == _IN_RUN) & (kinds[:-1] == _IN_RUN)
    first, last = kinds != _SPACE, kinds != _SPACE
    first[1:] &= ~joined
    last[:-1] &= ~joined
    starts, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes + np.uint32(1)) * _powers(_MULTIPLIER, len(codes)), out=sums[1:])
    return _mixed((sums[ends] - sums[starts]) * _powers(_INVERSE, len(codes))[starts])


_SPACE, _IN_RUN, _ALONE = 0, 1, 2


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """The kind of each code point for the shingle tokenizer: 1.1 MB, computed once in half a second."""
    everything = "".join(" " if 0xD800 <= code < 0xE000 else chr(code) for code in range(sys.maxunicode + 1))
    kinds = np.full(len(everything), _ALONE, dtype=np.uint8)
    for kind, pattern in ((_IN_RUN, rf"{_LETTER}+"), (_SPACE, r"\s+")):
        for run in re.finditer(pattern, everything):
            kinds[run.start() : run.end()] = kind
    kinds[0xD800:0xE000] = _ALONE
    return kinds


def _powers(base: np.uint64, count: int) -> Hashes:
    """1, base, base**2, ... in wrapping arithmetic, shape (count,)."""
    return _kept_powers(base)[:count] if count <= _KEPT_POWERS else _made_powers(base, count)


_KEPT_POWERS = 1 << 18
"""Powers that are computed once, enough for nearly every text: 2 MB for each base."""


@lru_cache(maxsize=2)
def _kept_powers(base: np.uint64) -> Hashes:
    powers = _made_powers(base, _KEPT_POWERS)
    powers.flags.writeable = False
    return powers


def _made_powers(base: np.uint64, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers, out=powers)


def words(text: str) -> list[str]:
    """Lower-cased words and whole numbers, without punctuation and symbols; Chinese is split into characters.

    Without symbols, `$x^2$`, `\\(x^2\\)` and `x^2` are the same, so a quotation is found in any mathematics markup.
    Full-width letters and digits, superscripts and mathematical alphabets are normalized too (Unicode NFKC), and the comma
    in 1,000 is removed.
    """
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(_THOUSANDS.sub("", folded.lower()))


class _WordHashes(dict[str, int]):
    """Caches word hashes: web text repeats its words, and a dict lookup is faster than encoding and hashing."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHE_LIMIT:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


_word_hashes = _WordHashes()


def token_hashes(tokens: Sequence[str]) -> Hashes:
    """One 64-bit hash per token, shape (len(tokens),)."""
    return np.fromiter((_word_hashes[token] for token in tokens), dtype=np.uint64, count=len(tokens))


def gram_hashes(hashes: Hashes, n: int) -> Hashes:
    """Hashes of all n-grams of a token-hash sequence, shape (max(0, len - n + 1),): a polynomial in wrapping 64-bit arithmetic, then mixed.

    Equal n-grams have equal hashes. Different ones collide about once in 2**64 pairs; decontamination compares the
    words, MinHash need not.
    """
    count = len(hashes) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    total = np.full(count, n, dtype=np.uint64)
    for start in range(n):
        total *= _MULTIPLIER
        total += hashes[start : start + count]
    return _mixed(total)


def _mixed(hashes: Hashes) -> Hashes:
    """Mix the hashes in place, so that every bit of the result depends on every input bit."""
    hashes ^= hashes >> np.uint64(33)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(33)
    return hashes
