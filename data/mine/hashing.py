"""Words of a text and 64-bit hashes of its n-grams, vectorised: shared by near-duplicate removal and decontamination.

Neither tokenizer folds numbers or joins lines: "2 + 3 = 5" and "4 + 7 = 11" must stay different.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts written without spaces: every character is a word (kana, CJK ideographs, and their compatibility block).
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SHINGLE_TOKEN = re.compile(rf"[^\W\d_{_UNSPACED}]+|\S")
_WORD = re.compile(rf"\d+(?:\.\d+)?|[^\W\d_{_UNSPACED}]+|[{_UNSPACED}]")
_THOUSANDS = re.compile(r",(?<=\d,)(?=\d{3}(?!\d))")  # the comma first: the search for it is quick

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_CACHE_LIMIT = 1_000_000


def shingle_tokens(text: str) -> list[str]:
    """Lower-cased runs of letters, and every other visible character by itself (digits and symbols included)."""
    return _SHINGLE_TOKEN.findall(text.lower())


def words(text: str) -> list[str]:
    """Lower-cased words and whole numbers; punctuation and symbols are left out, Chinese goes by character.

    Leaving symbols out makes `$x^2$`, `\\(x^2\\)` and `x^2` the same, so a page quotes a benchmark whatever mathematics
    markup it uses. So do full-width letters and digits, superscripts and mathematical alphabets (Unicode NFKC), and
    the comma in 1,000.
    """
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _WORD.findall(_THOUSANDS.sub("", folded.lower()))


class _WordHashes(dict[str, int]):
    """Remembers word hashes: web text repeats its words, and a dict look-up is quicker than encode and hash."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHE_LIMIT:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


_word_hashes = _WordHashes()


def token_hashes(tokens: Sequence[str]) -> Hashes:
    """One 64-bit hash a token, shape (len(tokens),)."""
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
    total ^= total >> np.uint64(33)
    total *= _MIX
    total ^= total >> np.uint64(33)
    return total
