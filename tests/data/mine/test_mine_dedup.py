import random
import re

import numpy as np
import pytest

from data.config import DedupConfig
from data.mine.dedup import minhash, similar_pairs
from data.mine.hashing import gram_hashes, shingle_hashes, token_hashes, words
from data.mine.keys import band_keys

CONFIG = DedupConfig()


def text_of(seed: int, count: int = 300) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(4000)}" for _ in range(count)]


def jaccard(a: str, b: str, n: int) -> float:
    sets = []
    for text in (a, b):
        tokens = shingle_hashes(text).tolist()
        sets.append({tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def near_duplicates(texts: list[str], names: list[str]) -> list[tuple[int, int]]:
    """Pairs (dropped, kept) by position; `names` stand for URLs."""
    signatures = np.stack([minhash(text, CONFIG) for text in texts])
    keys = band_keys(signatures, CONFIG)
    buckets = [np.flatnonzero(keys[:, band] == key) for band in range(CONFIG.bands) for key in np.unique(keys[:, band])]
    pairs = similar_pairs(buckets, signatures, CONFIG.threshold)
    component = {row: {row} for row in range(len(texts))}
    for left, right in pairs.tolist():
        joined = component[left] | component[right]
        component |= dict.fromkeys(joined, joined)
    keep = {row: min(members, key=lambda member: names[member]) for row, members in component.items()}
    return [(row, kept) for row, kept in keep.items() if row != kept]


def test_shingles_keep_digits_and_symbols_apart() -> None:
    tokens = ["let", "x", "_", "1", "=", "2", "3", "+", "π", ",", "数", "学", "\ud800", "é", "let"]
    alone = [shingle_hashes(token).tolist() for token in tokens]
    assert shingle_hashes("Let x_1 = 23+π, 数学\n\ud800É  let ").tolist() == [value for hashes in alone for value in hashes]
    assert len(set(map(tuple, alone))) == len(tokens) - 1
    assert shingle_hashes("").tolist() == shingle_hashes(" \n\u00a0").tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_tokens_have_equal_hashes_when_they_are_equal(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("abcABC xyz 012_+\n.éß数あ\u0301") for _ in range(20_000))
    tokens = re.findall(r"[^\W\d_数あ]+|\S", text.lower())
    hashes = shingle_hashes(text).tolist()
    assert len(hashes) == len(tokens)
    assert len(set(hashes)) == len(set(tokens)) == len(set(zip(hashes, tokens, strict=True)))


def test_words_keep_numbers_whole_and_split_chinese() -> None:
    assert words("{1,2,13} 1,2345") == ["1", "2", "13", "1", "2345"]
    assert words("It's 1,000.50 km (x^2): 求和3") == ["it", "s", "1000.50", "km", "x", "2", "求", "和", "3"]


def test_equal_ngrams_have_equal_hashes_and_others_differ() -> None:
    grams = gram_hashes(token_hashes(["a", "b", "c", "a", "b", "c", "d"]), 3)
    assert grams[0] == grams[3]
    assert len(set(grams.tolist())) == 4
    assert len(gram_hashes(token_hashes(["a"]), 3)) == 0


def test_signatures_estimate_the_jaccard_similarity() -> None:
    errors = []
    for seed in range(20):
        tokens = text_of(seed)
        edited = list(tokens)
        for position in random.Random(seed).sample(range(len(tokens)), seed):
            edited[position] = "edited"
        a, b = " ".join(tokens), " ".join(edited)
        estimate = float((minhash(a, CONFIG) == minhash(b, CONFIG)).mean())
        errors.append(estimate - jaccard(a, b, CONFIG.ngram))
    # The standard error of 112 functions is at most 0.047 for one pair.
    assert abs(np.mean(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.15


def test_sums_with_other_numbers_are_no_duplicates() -> None:
    draw = random.Random(0)
    sums = [" ".join(f"{draw.randrange(100)} + {draw.randrange(100)} = {draw.randrange(200)} ." for _ in range(40)) for _ in range(6)]
    assert near_duplicates(sums, ["a", "b", "c", "d", "e", "f"]) == []


def test_of_near_duplicates_the_smallest_url_stays_whatever_the_order() -> None:
    base = text_of(1)
    copies = [" ".join([*base[:200], *base[200 + cut :]]) for cut in (0, 2, 4)]
    texts = [copies[0], " ".join(text_of(2)), copies[1], copies[2]]
    names = ["z.org", "m.org", "a.org", "k.org"]
    assert near_duplicates(texts, names) == [(0, 2), (3, 2)]
    order = [3, 2, 1, 0]
    reversed_pairs = near_duplicates([texts[i] for i in order], [names[i] for i in order])
    assert sorted((order[a], order[b]) for a, b in reversed_pairs) == [(0, 2), (3, 2)]


def test_banded_search_finds_the_pairs_that_comparing_all_finds() -> None:
    draw = random.Random(3)
    texts = []
    for seed in range(60):
        tokens = text_of(seed, 200)
        texts.append(" ".join(tokens))
        for _ in range(draw.randrange(3)):
            edited = list(tokens)
            for position in draw.sample(range(len(tokens)), draw.randrange(1, 5)):
                edited[position] = f"e{draw.randrange(1000)}"
            texts.append(" ".join(edited))
    signatures = np.stack([minhash(text, CONFIG) for text in texts])
    names = [f"{number:03d}" for number in range(len(texts))]
    expected = set()
    for page in range(len(texts)):
        similar = np.flatnonzero((signatures[:page] == signatures[page]).mean(axis=1) >= CONFIG.threshold)
        if len(similar):
            expected.add(page)
    found = near_duplicates(texts, names)
    # A chain can only add pages, and these edits make none; a missed band would lose some.
    assert {page for page, _ in found} == expected
    assert len(expected) > 20


def test_texts_shorter_than_a_shingle_are_compared_too() -> None:
    assert near_duplicates(["alpha beta", "alpha beta", "alpha gamma", ""], list("abcd")) == [(1, 0)]
