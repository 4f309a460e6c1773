"""The mini-web is the answer key of the mining tests, so its claims are checked against its WARC files."""

import json
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CrawlConfig, GeneratedCrawl
from mathquarry.data.crawl.miniweb import make_captures, respell
from mathquarry.data.crawl.miniweb_html import ENCODERS
from mathquarry.data.crawl.urls import parse_address
from mathquarry.data.crawl.warc import Page, read_pages
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.extract.html import Extracted, extract
from mathquarry.data.mine.config import DecontaminationConfig, DedupConfig
from mathquarry.data.mine.library.benchmarks import BenchmarkIndex, benchmark_texts
from mathquarry.data.mine.pages.hashing import gram_hashes, shingle_hashes, words
from mathquarry.data.mine.pages.signatures import minhash
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemsConfig
from mathquarry.data.problems.problem import Problem, read_problems
from mathquarry.data.store.workspace import Workspace

WEB = GeneratedCrawl(pages=900, domains=24, warc_files=3, near_duplicates=45, url_duplicates=18, contaminated=25)


class MiniWeb:
    """A generated crawl, its truth, and its pages as extraction sees them."""

    def __init__(self, folder: Path) -> None:
        self.problems, self.workspace = folder / "problems" / "out", Workspace.at(folder / "crawl")
        build_problems(ProblemsConfig(source=GeneratedProblems(train=600, test=400)), Workspace.at(folder / "problems"))
        self.summary = build_crawl(CrawlConfig(source=WEB), self.problems, self.workspace)
        self.truth = {row["url"]: row for row in map(json.loads, (self.workspace.out / "truth.jsonl").open())}
        files = json.loads((self.workspace.out / "warcs.json").read_text())["files"]
        records = [record for file in files for record in read_pages(str(self.workspace.out / file["path"]), 5_000_000)]
        self.pages = {record.url: record for record in records if isinstance(record, Page)}
        self.texts: dict[str, Extracted] = {url: extract(page.html) for url, page in self.pages.items()}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> MiniWeb:
    return MiniWeb(tmp_path_factory.mktemp("miniweb"))


def shingles(text: str) -> np.ndarray:
    return np.unique(gram_hashes(shingle_hashes(text), 5))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def test_every_line_of_the_truth_is_a_page_and_every_page_a_line(web: MiniWeb) -> None:
    assert set(web.truth) == set(web.pages)
    assert len(web.pages) == web.summary["pages"] == WEB.pages
    assert len({row["host"] for row in web.truth.values()}) == web.summary["hosts"] == WEB.domains


def test_as_many_pages_are_planted_as_asked_for(web: MiniWeb) -> None:
    for field, count in (("duplicate_of", 45), ("url_duplicate_of", 18), ("contaminated_by", 25)):
        planted = [row[field] for row in web.truth.values() if row[field]]
        assert len(planted) == len(set(planted)) == count
    assert (web.summary["near_duplicates"], web.summary["url_duplicates"], web.summary["contaminated"]) == (45, 18, 25)


def test_the_share_of_mathematics_is_the_one_asked_for(web: MiniWeb) -> None:
    labels = Counter(row["label"] for row in web.truth.values())
    assert (labels["math"] + labels["math_plain"]) / WEB.pages == pytest.approx(WEB.math_share, abs=0.02)
    assert 0.15 < labels["math_plain"] / (labels["math"] + labels["math_plain"]) < 0.45


def test_every_encoding_occurs_and_every_formula_is_found_again(web: MiniWeb) -> None:
    assert {row["encoding"] for row in web.truth.values() if row["label"] == "math"} == set(ENCODERS)
    for url, row in web.truth.items():
        if row["label"] == "math":
            assert web.texts[url].formulas >= 6, url
        else:
            assert web.texts[url].formulas == 0, url  # prices are no formulas


def test_frames_of_sites_do_not_reach_the_text(web: MiniWeb) -> None:
    for word in ("Copyright", "Privacy policy", "We use cookies", "Imprint", "Popular"):
        assert not [url for url, found in web.texts.items() if word in found.text]
    assert any("$" in found.text for url, found in web.texts.items() if web.truth[url]["label"] == "other")


def test_pages_have_real_lengths(web: MiniWeb) -> None:
    lengths = [len(found.text) for found in web.texts.values()]
    assert min(lengths) > 500
    assert 1000 < np.mean(lengths) < 1800
    assert max(lengths) < 3000


def test_near_duplicates_lie_on_other_hosts_and_differ_a_little(web: MiniWeb) -> None:
    for url, row in web.truth.items():
        if row["duplicate_of"]:
            original = web.truth[row["duplicate_of"]]
            assert row["host"] != original["host"]
            assert row["label"] == original["label"]
            similarity = jaccard(shingles(web.texts[url].text), shingles(web.texts[original["url"]].text))
            assert 0.85 < similarity < 1.0


def test_no_two_other_pages_are_alike(web: MiniWeb) -> None:
    # Pages of six and more problems, each with its own names and numbers, share few five-word sequences by chance.
    bands: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for url, found in web.texts.items():
        signature = minhash(found.text, DedupConfig(bands=28, rows=4)).reshape(28, 4)
        for number, band in enumerate(signature):
            bands[number, band.tobytes()].append(url)
    planted = {frozenset((url, row["duplicate_of"] or row["url_duplicate_of"])) for url, row in web.truth.items()}
    candidates = {frozenset(pair) for urls in bands.values() for pair in combinations(urls, 2)} - planted
    similar = {pair: jaccard(*(shingles(web.texts[url].text) for url in pair)) for pair in candidates}
    assert max(similar.values(), default=0.0) < 0.4


def test_respelt_addresses_are_one_address_and_all_others_differ(web: MiniWeb) -> None:
    canonical = {}
    for url in web.truth:
        address = parse_address(url)
        assert address is not None
        canonical[url] = address.canonical
    for url, row in web.truth.items():
        if row["url_duplicate_of"]:
            assert url != row["url_duplicate_of"]
            assert canonical[url] == canonical[row["url_duplicate_of"]]
    assert len(set(canonical.values())) == WEB.pages - WEB.url_duplicates


@pytest.mark.parametrize("url", ["https://www.h.example/a/b", "https://h.example/blog/b-1/"])
def test_each_spelling_is_new_and_canonically_the_same(url: str) -> None:
    spellings = [respell(url, way) for way in range(6)]
    assert len({url, *spellings}) == 7
    assert len({address.canonical for found in [url, *spellings] if (address := parse_address(found))}) == 1


def test_planted_pages_quote_their_held_out_problem_and_no_other_page_quotes_any(web: MiniWeb) -> None:
    test = {problem.id: problem for problem in read_problems(web.problems / "test.jsonl")}
    config = DecontaminationConfig()
    index = BenchmarkIndex(benchmark_texts(test.values(), config), config)
    for url, row in web.truth.items():
        text = web.texts[url].text
        if row["contaminated_by"]:
            assert test[row["contaminated_by"]].question in text
            assert test[row["contaminated_by"]].answer in text
            assert row["label"] != "other"
        else:
            assert not index.find(words(text)), url


def test_the_pages_teach_training_problems(web: MiniWeb) -> None:
    train = [problem.question for problem in read_problems(web.problems / "train.jsonl")]
    corpus = "\n".join(web.texts[url].text for url, row in web.truth.items() if row["label"] != "other")
    assert sum(question in corpus for question in train) > 0.6 * len(train)
    assert "<<" not in corpus


def test_mathematics_lies_under_few_paths_and_mixed_hosts_have_other_pages(web: MiniWeb) -> None:
    shares: dict[tuple[str, str], list[bool]] = defaultdict(list)
    hosts: dict[str, set[bool]] = defaultdict(set)
    for row in web.truth.values():
        shares[row["host"], row["path_prefix"]].append(row["label"] != "other")
        hosts[row["host"]].add(row["label"] != "other")
    assert all(all(share) or not any(share) for share in shares.values())
    kinds = Counter(frozenset(found) for found in hosts.values())
    assert kinds[frozenset({True, False})] >= 4
    assert kinds[frozenset({False})] >= 10


def test_equal_seeds_give_equal_bytes_and_others_do_not(web: MiniWeb, tmp_path: Path) -> None:
    again, other = Workspace.at(tmp_path / "again"), Workspace.at(tmp_path / "other")
    assert build_crawl(CrawlConfig(source=WEB), web.problems, again) == web.summary
    names = sorted(path.relative_to(again.out) for path in again.out.rglob("*") if path.is_file())
    assert len(names) == WEB.warc_files + 2
    assert all((again.out / name).read_bytes() == (web.workspace.out / name).read_bytes() for name in names)
    build_crawl(CrawlConfig(source=WEB, seed=1), web.problems, other)
    assert (other.out / "truth.jsonl").read_bytes() != (web.workspace.out / "truth.jsonl").read_bytes()


def problems(count: int, name: str) -> list[Problem]:
    # Distinct held-out questions: a long word list in another order each.
    return [
        Problem(f"{name}-{i}", f"Question {name} {i}: what is {i} plus {i + 1}?", str(2 * i + 1), f"{i}+{i + 1}={2 * i + 1}")
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"domains": 2}, "crawl.source.domains is 2"),
        ({"near_duplicates": 60}, "60 near_duplicates"),
        ({"contaminated": 30, "near_duplicates": 0, "url_duplicates": 0}, "crawl.source.contaminated is 30"),
        ({"math_share": 0.0}, "crawl.source.contaminated is 5"),
    ],
)
def test_numbers_that_do_not_fit_are_named(changes: dict, culprit: str) -> None:
    small = {"pages": 100, "domains": 6, "near_duplicates": 10, "url_duplicates": 5, "contaminated": 5, "math_share": 0.5}
    with pytest.raises(MathQuarryError, match=culprit):
        make_captures(GeneratedCrawl.model_validate(small | changes), problems(20, "train"), problems(20, "test"), 0)


def test_the_smallest_mini_web_works() -> None:
    config = GeneratedCrawl(pages=3, domains=3, warc_files=1, near_duplicates=0, url_duplicates=0, contaminated=1, math_share=0.5)
    assert len(make_captures(config, problems(1, "train"), problems(1, "test"), 0)) == 3


def test_problems_with_solutions_in_prose_make_pages_too() -> None:
    train = [Problem("g", "How many eggs is that?", "18", "There are 3*6=<<3*6=18>>18 eggs.\nThat is 18 eggs.", source="gsm8k")]
    config = GeneratedCrawl(pages=60, domains=4, near_duplicates=5, url_duplicates=5, contaminated=0, math_share=0.9)
    documents = [capture.document for capture in make_captures(config, train, problems(1, "test"), 0)]
    assert any("There are 3*6=18 eggs." in str(document) for document in documents)
