"""MinHash signatures of documents by one library: `minhash.py NAME documents.jsonl pairs.json [errors.json]`.

14 bands of 8 rows over word 5-grams. The errors file gets, for every pair, the similarity that the signatures estimate
and the true one of the same library's own shingles.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable

from clock import measured, read_lines

BANDS, ROWS, NGRAM = 14, 8, 5
_WORD = re.compile(r"[^\W\d_]+|\S")


def mathquarry() -> tuple[Callable, Callable, Callable]:
    """(signature, agreement of two signatures, set of shingles)."""
    from mathquarry.data.mine.config import DedupConfig
    from mathquarry.data.mine.pages.hashing import gram_hashes, shingle_hashes
    from mathquarry.data.mine.pages.signatures import minhash

    config = DedupConfig(bands=BANDS, rows=ROWS, ngram=NGRAM)

    def shingles(text: str) -> set:
        return set(gram_hashes(shingle_hashes(text), NGRAM).tolist())

    return lambda text: minhash(text, config), lambda a, b: float((a == b).mean()), shingles


def datasketch() -> tuple[Callable, Callable, Callable]:
    """Its vectorised `update_batch` and default hash, over shingles of the same words as MathQuarry's."""
    from datasketch import MinHash

    def shingles(text: str) -> set:
        words = _words(text)
        return {" ".join(words[start : start + NGRAM]).encode() for start in range(len(words) - NGRAM + 1)}

    def signature(text: str) -> MinHash:
        sketch = MinHash(num_perm=BANDS * ROWS)
        sketch.update_batch(shingles(text))
        return sketch

    return signature, lambda a, b: a.jaccard(b), shingles


def _words(text: str) -> list[str]:
    """The words of which MathQuarry's shingles consist."""
    return _WORD.findall(text.lower())


def rensa(words: Callable[[str], list[str]] = _words) -> tuple[Callable, Callable, Callable]:
    """Its full-set R-MinHash over shingles of `words`."""
    from rensa import RMinHash

    def joined(text: str) -> list[str]:
        found = words(text)
        return [" ".join(found[start : start + NGRAM]) for start in range(len(found) - NGRAM + 1)]

    def signature(text: str) -> RMinHash:
        sketch = RMinHash(BANDS * ROWS, 42)
        sketch.update(joined(text))
        return sketch

    return signature, lambda a, b: a.jaccard(b), lambda text: set(joined(text))


def datatrove() -> tuple[Callable, Callable, Callable]:
    """Its default configuration: xxhash, 64 bits, 14 x 8, words by spaCy. Signatures stay in memory."""
    import tempfile

    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    step = MinhashDedupSignature(tempfile.mkdtemp(), MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS))

    def signature(text: str) -> list:
        shingles = step.get_shingles(text)
        return [value for bucket in step.get_signature(shingles) for value in bucket] if shingles.size else []

    def agreement(a: list, b: list) -> float:
        return sum(x == y for x, y in zip(a, b, strict=True)) / len(a) if a else 0.0

    return signature, agreement, lambda text: set(step.get_shingles(text).ravel().tolist())


def main(name: str, documents_path: str, pairs_path: str, errors_path: str | None = None) -> None:
    """Compute the signatures of all documents."""
    texts = [record["text"] for record in read_lines(documents_path)]
    systems = {
        "mathquarry": mathquarry,
        "rensa": rensa,
        "rensa-spaces": lambda: rensa(str.split),
        "datasketch": datasketch,
        "datatrove": datatrove,
    }
    signature, agreement, shingles = systems[name]()
    signature("one two three four five six seven")
    result = {"items": len(texts)}
    with measured(result):
        signatures = [signature(text) for text in texts]
    if errors_path is not None:
        found = []
        with open(pairs_path, encoding="utf-8") as file:
            pairs = json.load(file)
        for first, second in pairs:
            a, b = shingles(texts[first]), shingles(texts[second])
            if a and b:
                found.append((agreement(signatures[first], signatures[second]), len(a & b) / len(a | b)))
        with open(errors_path, "w", encoding="utf-8") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
