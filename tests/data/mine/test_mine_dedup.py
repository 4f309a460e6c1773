import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.mine.config import DedupConfig, MineConfig
from mathquarry.data.mine.library.duplicates import drop_repeated, find_duplicates, removed_captures
from mathquarry.data.mine.library.keys import band_keys
from mathquarry.data.mine.pages.hashing import gram_hashes, shingle_hashes, token_hashes, words
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import capture_crawl, warc_files
from mathquarry.data.mine.pages.signatures import minhash, similar_pairs
from mathquarry.data.store.workspace import Progress

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


Stay = Callable[[list[tuple[str, str]]], dict[str, str]]


@pytest.fixture
def stays(write_crawl: Callable[[list[tuple[str, str]]], Path], mine_config: MineConfig, tmp_path: Path) -> Stay:
    """(URL, text) pages of a crawl -> for each page that mining drops as a duplicate, the step and the page kept instead."""

    def found(pages: list[tuple[str, str]]) -> dict[str, str]:
        crawl = write_crawl([(url, f"<html><body><main><p>{text}</p></main></body></html>") for url, text in pages])
        folder = tmp_path / "work"
        with WorkerPool(mine_config.workers, Progress([])) as pool:
            shards = capture_crawl(warc_files(crawl), folder / "shards", mine_config, pool)
            steps = find_duplicates(shards, mine_config, folder / "keys", folder / "duplicates", pool)
        rows = [row for shard in shards for row in pq.read_table(shard, columns=["capture", "url"]).to_pylist()]
        names = {row["capture"]: row["url"] for row in rows if row["url"]}  # a file without records is a row without a URL
        assert len(names) == len(pages)
        dropped = {
            names[pair["capture"]]: f"{step} of {names[pair['keep']]}"
            for step, files in steps.items()
            for file in files
            for pair in pq.read_table(file).to_pylist()
        }
        assert [names[capture] for capture in removed_captures(steps).tolist()] == [name for name in names.values() if name in dropped]
        shutil.rmtree(folder)
        shutil.rmtree(crawl)
        return dropped

    return found


def test_of_near_duplicates_the_smallest_url_stays_whatever_the_order(stays: Stay) -> None:
    """a is near to k, k to z; they form one group, of which the URL that sorts first stays; m is another text."""
    base = text_of(1)
    copies = [" ".join([*base[:200], *base[200 + cut :]]) for cut in (0, 8, 16)]
    pages = [
        ("https://z.org/", copies[0]),
        ("https://m.org/", " ".join(text_of(2))),
        ("https://a.org/", copies[1]),
        ("https://k.org/", copies[2]),
    ]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]):
        assert stays([pages[place] for place in order]) == {
            "https://z.org/": "near-duplicate of https://a.org/",
            "https://k.org/": "near-duplicate of https://a.org/",
        }


def test_every_group_of_near_duplicates_keeps_one_page(stays: Stay) -> None:
    pages = {}
    for seed, name in enumerate("abcde"):
        base = text_of(seed)
        pages |= {f"https://{name}.org/1": " ".join(base), f"https://{name}.org/2": " ".join(base[:-8])}
    assert stays(list(pages.items())) == {f"https://{name}.org/2": f"near-duplicate of https://{name}.org/1" for name in "abcde"}


def test_repeats_are_found_in_a_crawl_of_one_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys.parquet"
    rows = {"key": pa.array([7, 7, 7, 8], pa.uint64()), "rest": pa.array([1, 1, 2, 1], pa.uint64()), "capture": [30, 20, 10, 5]}
    pq.write_table(pa.table(rows), keys)
    drop_repeated([keys], [], (0, 2**64 - 1), MineConfig(), tmp_path, tmp_path / "pairs.parquet")
    assert pq.read_table(tmp_path / "pairs.parquet").to_pylist() == [{"capture": 30, "keep": 20}]


def test_of_equal_texts_the_smallest_url_stays_and_of_one_url_the_first_capture(stays: Stay) -> None:
    text, other = " ".join(text_of(1)), " ".join(text_of(2))
    for order in ((0, 1, 2), (2, 1, 0)):
        pages = [("https://z.org/", text), ("https://a.org/", text), ("https://m.org/", text)]
        assert stays([pages[place] for place in order]) == {
            "https://z.org/": "exact-duplicate of https://a.org/",
            "https://m.org/": "exact-duplicate of https://a.org/",
        }
    # The second capture lies in another WARC file, and has another text.
    assert stays([("https://b.org/x?utm_source=mail", text), ("https://b.org/x", other)]) == {
        "https://b.org/x": "url-duplicate of https://b.org/x?utm_source=mail"
    }


def test_from_which_similarity_texts_are_duplicates_is_the_configs() -> None:
    """Every 30th of 300 words differs: about 0.7 of the shingles of five are shared, fewer than of shingles of two."""
    base = text_of(1)
    edited = [f"edit{place}" if place % 30 == 0 else word for place, word in enumerate(base)]
    signatures = [minhash(" ".join(tokens), CONFIG) for tokens in (base, edited)]
    similarity = float((signatures[0] == signatures[1]).mean())
    assert 0.5 < similarity < 0.95
    for threshold, pairs in ((similarity - 0.02, 1), (similarity + 0.02, 0)):
        assert len(similar_pairs([np.array([0, 1])], np.stack(signatures), threshold)) == pairs
    wide = [minhash(" ".join(tokens), DedupConfig(ngram=2)) for tokens in (base, edited)]
    assert float((wide[0] == wide[1]).mean()) > similarity


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
