import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mathquarry.data.crawl.warc import Dropped, read_pages
from mathquarry.data.extract.html import extract
from mathquarry.data.mine.config import DecontaminationConfig, MineConfig
from mathquarry.data.mine.library.benchmarks import BenchmarkIndex, Hit, benchmark_texts
from mathquarry.data.mine.library.decontaminate import Contamination, Quotation, decontaminate, quotation_in
from mathquarry.data.mine.library.segments import join_without, split_segments
from mathquarry.data.mine.pages.hashing import words
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import Pages, capture_crawl, token_estimate, warc_files
from mathquarry.data.problems import benchmark, gsm8k, math
from mathquarry.data.problems.problem import Problem
from mathquarry.data.store.workspace import Progress
from tests.data.mine.conftest import MATH_WORDS, QUOTED, WriteCrawl, prose

CONFIG = DecontaminationConfig()

LONG = Problem(
    id="p1",
    question="Anna buys three red apples and seven green pears at the market on Sunday. How many pieces of fruit is that?",
    answer="10",
    solution="She has 3+7=<<3+7=10>>10 pieces of fruit in her basket when she walks home.",
    source="fruit",
)
SHORT = Problem(id="p2", question="Compute the ninth prime cube", answer="twelve thousand one hundred", source="cubes")
CHINESE = Problem(id="p3", question="小明有三个苹果，小红给他五个，一共几个？", answer="8", language="zh", source="cmath")


def find(page: str, *problems: Problem, config: DecontaminationConfig = CONFIG) -> Hit | None:
    """The first match, or None."""
    return next(iter(BenchmarkIndex(benchmark_texts(problems, config), config).find(words(page))), None)


def test_a_page_that_shares_ten_words_is_found_and_the_quote_named() -> None:
    hit = find("Homework! anna buys three red apples, and seven green pears AT the fair", LONG)
    assert hit is not None
    assert hit.detail == "fruit p1 question, 10-gram: anna buys three red apples and seven green pears at"


def test_nine_shared_words_are_not_enough() -> None:
    assert find("anna buys three red apples and seven green pears from the fair", LONG) is None


def test_mathematics_markup_and_punctuation_do_not_hide_a_quotation() -> None:
    problem = Problem(id="m", question=r"Let \(f(x) = 3x^2 + 5x\) be given. Find the least value of f on the line.", answer="")
    assert find("Let $f(x)=3x^2+5x$ be given; find the least value of $f$ on the line", problem) is not None


def test_other_numbers_are_another_problem() -> None:
    assert find(LONG.question.replace("three", "4").replace("seven", "9").replace("Sunday", "Monday"), LONG) is None


def test_a_solution_is_found_with_and_without_calculator_marks() -> None:
    hit = find("So she has 3+7=10 10 pieces of fruit in her basket when she walks", LONG)
    assert hit is not None
    assert hit.text.part == "solution"


def test_short_questions_match_whole_only() -> None:
    hit = find("Today: compute the ninth prime cube, please", SHORT)
    assert hit is not None
    assert (hit.n, hit.text.problem) == (5, "p2")
    assert find("compute the ninth prime square", SHORT) is None


def test_short_answers_match_only_on_request() -> None:
    page = "the village has twelve thousand one hundred people"
    assert find(page, SHORT) is None
    assert find(page, SHORT, config=DecontaminationConfig(short_answers=True)) is not None


def test_texts_of_one_or_two_words_never_match() -> None:
    config = DecontaminationConfig(short_answers=True)
    assert benchmark_texts([Problem(id="t", question="Why?", answer="no idea")], config) == []


def test_chinese_goes_by_character() -> None:
    assert find("问题：小明有三个苹果，小红给他五块糖。", CHINESE) is not None
    assert find("小明有三个苹果，小红没有。", CHINESE) is None


COUNTING = Problem(id="c", question="What is the median of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 12?", answer="")


def test_counting_to_ten_is_no_quotation() -> None:
    page = "chapters 1 2 3 4 5 6 7 8 9 10"
    assert find(page, COUNTING) is None
    assert find(page, COUNTING, config=DecontaminationConfig(distinct_words=0)) is not None
    assert find("so what is the median of 1, 2, 3, 4, 5?", COUNTING) is not None


def test_a_text_of_symbols_alone_matches_whole() -> None:
    problem = Problem(id="s", question="1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11 = x", answer="")
    assert find("1 2 3 4 5 6 7 8 9 10 11 12", problem) is None
    assert find("solve 1+2+3+4+5+6+7+8+9+10+11 = x now", problem) is not None


def test_hash_search_finds_what_comparing_words_finds() -> None:
    draw = random.Random(0)
    vocabulary = ["ant", "bee", "cat", "dog", "elk", "fox"]
    problems = [
        Problem(id=f"r{number}", question=" ".join(draw.choices(vocabulary, k=draw.randrange(3, 9))), answer="") for number in range(200)
    ]
    config = DecontaminationConfig(ngram=6)
    index = BenchmarkIndex(benchmark_texts(problems, config), config)
    forbidden = set()
    for problem in problems:
        tokens = words(problem.question)
        n = min(6, len(tokens))
        # With six words to draw from, some n-grams have fewer than three different ones.
        grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
        forbidden |= {gram for gram in grams if n < 6 or len(set(gram)) >= 3} or {tuple(tokens)}
    for _ in range(300):
        page = draw.choices(vocabulary, k=12)
        slow = any(tuple(page[at : at + n]) in forbidden for n in range(3, 9) for at in range(len(page) - n + 1))
        assert bool(index.find(page)) == slow


@pytest.mark.parametrize("page", ["", "one", "   ", "🙂"])
def test_pages_without_words_are_clean(page: str) -> None:
    assert find(page, LONG, SHORT) is None


def test_no_benchmarks_no_matches() -> None:
    assert find("anything at all") is None


TRADITIONAL = CHINESE.question.replace("个", "個").replace("苹", "蘋").replace("红", "紅").replace("给", "給").replace("几", "幾")


@pytest.mark.parametrize(
    "page",
    [
        "小明有３个苹果， 小红给他５个， 一共几个？",
        "小明有 3 个\n苹果，小红给他 $5$ 个，一共几个?",
        "题目（1）：【小明有3个苹果;小红给他\\(5\\)个,一共几个】",
        "1. 小明有3个苹果，小红给他5个，一共几个？ A. ８ B. ９",
    ],
)
def test_width_markup_and_punctuation_do_not_hide_a_chinese_quotation(page: str) -> None:
    problem = Problem(id="zh", question="小明有3个苹果，小红给他5个，一共几个？", answer="8", language="zh")
    assert find(page, problem) is not None


def test_mixed_languages_and_mathematical_alphabets_are_words_alike() -> None:
    problem = Problem(id="m", question=r"设函数 $f(x)=x^2-2ax+1000$ 在区间 $[-1,1]$ 上单调, 求 a 的取值范围", answer="")
    assert find("例3 设函数𝑓(𝑥)=𝑥²－２𝑎𝑥＋1,000 在区间［－１，１］上单调，求𝑎的取值范围", problem) is not None


def test_traditional_characters_are_other_characters() -> None:
    assert find(CHINESE.question, CHINESE) is not None
    assert find(TRADITIONAL, CHINESE) is None


def test_thousands_are_one_number_with_and_without_comma() -> None:
    problem = Problem(id="t", question="A town of 50,000 people plants 1,250 trees every year near the old river", answer="")
    hit = find("a town of 50000 people plants 1250 trees every year near the river", problem)
    assert hit is not None
    assert hit.quote == "a town of 50000 people plants 1250 trees every year"


def test_a_page_that_quotes_two_benchmarks_has_both_named_with_their_n() -> None:
    index = BenchmarkIndex(benchmark_texts([LONG, SHORT], CONFIG), CONFIG)
    quotation = quotation_in(f"{LONG.question}\n\nNothing here.\n\n{SHORT.question}. And again: {SHORT.question}!", index, 1000)
    assert quotation is not None
    assert [(hit.text.source, hit.n) for hit in quotation.hits] == [("fruit", 10), ("cubes", 5)]
    assert quotation.segments == [1, 1]
    assert (quotation.removed, quotation.total, quotation.text) == (2, 3, "Nothing here.")


def examined(text: str, longest: int = 1000) -> Quotation:
    found = quotation_in(text, BenchmarkIndex(benchmark_texts([LONG], CONFIG), CONFIG), longest)
    assert found is not None
    return found


def test_a_quotation_over_a_paragraph_break_takes_both_paragraphs() -> None:
    first, second = LONG.question.split(" green ")
    found = examined(f"Before.\n\n{first}\n\ngreen {second}\n\nAfter.")
    assert (found.removed, found.total, found.text) == (2, 4, "Before.\n\nAfter.")


def test_of_a_long_paragraph_only_the_sentences_that_quote_go() -> None:
    filler = "This sentence is about the weather in spring. " * 5
    found = examined(f"{filler}Anna buys three red apples and seven green pears at the fair. {filler}", longest=100)
    assert found.text == f"{filler}{filler}".strip()
    assert found.removed == 1


@pytest.mark.parametrize("longest", [1, 40, 10_000])
def test_segments_are_the_text_and_never_end_inside_a_formula(longest: int) -> None:
    text = "One. Two is $a.\n b. c$ here! 三。四？五\n\n\n  Six costs \\$5. Seven\nEight $$x.\ny$$ nine.\n"
    segments = split_segments(text, longest)
    assert "".join(segments) == text
    assert any("$a.\n b. c$" in segment for segment in segments)
    assert any("$$x.\ny$$" in segment for segment in segments)
    assert len(segments) == {1: 8, 40: 4, 10_000: 2}[longest]
    assert join_without(segments, range(len(segments))) == ""


def test_every_chinese_benchmark_question_is_found_in_a_page_that_writes_it_otherwise(shared_data: Path) -> None:
    names = ["cmath-test", "mgsm_zh-mgsm_zh", "gaokao-mathcloze", "gaokao-mathqa"]
    problems = [problem for name in names for problem in benchmark.load(str(shared_data / "benchmarks" / f"{name}.jsonl.gz"))]
    index = BenchmarkIndex(benchmark_texts(problems, CONFIG), CONFIG)
    full_width = {ord(half): chr(ord(half) + 0xFEE0) for half in "0123456789,.?()=+-"}
    lost = []
    for problem in problems:
        if len(words(problem.question)) < CONFIG.shortest:
            continue
        asked = problem.question.translate(full_width).replace("$", " \\( ").replace("，", ",\n")
        if not index.find(words(f"练习题 第3题\n\n{asked}\n\n下一题")):
            lost.append(problem.id)
    assert len(problems) == 1098 + 250 + 118 + 351
    assert lost == []


QUOTING, LEFT = [QUOTED.question, "Not hard, is it?", SHORT.question + "!"], prose(MATH_WORDS, 9)
PARAGRAPHS = [
    [prose(MATH_WORDS, 1)],
    ["Too little."],
    [prose(MATH_WORDS, 2)],
    QUOTING,
    [prose(MATH_WORDS, 3)],
    [prose(MATH_WORDS, 4)],
    [prose(MATH_WORDS, 5)],
    [LEFT, QUOTED.question],
    [LEFT + " again", QUOTED.question],
]
"""Of the three WARC files, the first has pages 0, 3 and 6, the second 1, 4 and 7, the last 2, 5 and 8."""


@pytest.mark.parametrize("remove", ["segment", "page"])
def test_quoting_pages_of_a_crawl_go_or_lose_their_quotations_in_a_copy_of_their_shard(
    remove: str, write_crawl: WriteCrawl, problems: Path, mine_config: MineConfig, tmp_path: Path
) -> None:
    config = DecontaminationConfig(remove=remove)
    html = ["<html><body><main>" + "".join(f"<p>{part}</p>" for part in page) + "</main></body></html>" for page in PARAGRAPHS]
    files = warc_files(write_crawl([(f"https://x.org/{number}", page) for number, page in enumerate(html)]))
    with WorkerPool(mine_config.workers, Progress([])) as pool:
        pages = Pages.load(capture_crawl(files, tmp_path / "shards", mine_config, pool))
        urls = {
            row["capture"]: row["url"] for shard in pages.shards for row in pq.read_table(shard, columns=["capture", "url"]).to_pylist()
        }
        alive = np.array([urls[capture] != "https://x.org/8" for capture in pages.capture.tolist()])
        arguments = (pages, alive, problems, config, 100, tmp_path / "benchmarks", pool)
        found, shards = decontaminate(*arguments)
        assert decontaminate(*arguments) == (found, shards)

    whole = [token_estimate(len("\n\n".join(PARAGRAPHS[number]).encode())) for number in (3, 7)]
    left = token_estimate(len(LEFT.encode()) if remove == "segment" else 0)
    by_page = {int(urls[capture].rpartition("/")[2]): page for capture, page in found.pages.items()}
    assert {number: (page["segments"], page["tokens"], page["tokens_left"]) for number, page in by_page.items()} == {
        3: (2, whole[0], token_estimate(0)),
        7: (1, whole[1], left),
    }
    assert by_page[3]["dropped"].startswith("bakery held-out-1 question, 10-gram: a baker fills")
    assert {urls[capture] for capture in found.dropped} == {"https://x.org/3"} | ({"https://x.org/7"} if remove == "page" else set())
    assert found.tokens_cut == (whole[1] - left if remove == "segment" else 0)
    assert found.totals() == {
        "remove": remove,
        "pages_hit": 2,
        "segments_hit": 3,
        "pages_dropped": len(found.dropped),
        "tokens_removed": whole[0] + (whole[1] - left if remove == "segment" else whole[1]),
    }
    assert found.counts() == [
        {"benchmark": "bakery", "n": 10, "pages": 2, "segments": 2},
        {"benchmark": "cubes", "n": 5, "pages": 1, "segments": 1},
    ]
    found.write(urls, tmp_path / "quotes.parquet")
    assert [(row["url"], row["removed"]) for row in pq.read_table(tmp_path / "quotes.parquet").to_pylist()] == [
        ("https://x.org/3", "page"),
        ("https://x.org/3", "page"),
        ("https://x.org/7", remove),
    ]

    assert [copy == shard for copy, shard in zip(shards, pages.shards, strict=True)] == [True, remove == "page", True]
    if remove == "segment":
        before, after = ({row["url"]: row for row in pq.read_table(file).to_pylist()} for file in (pages.shards[1], shards[1]))
        size = len(LEFT.encode())
        assert after == before | {"https://x.org/7": before["https://x.org/7"] | {"text": LEFT, "bytes": size, "tokens": left}}


def test_findings_of_two_comparisons_are_added_up() -> None:
    pages = [{number: {"dropped": "", "tokens": 9, "tokens_left": number, "segments": 1, "quotes": []}} for number in (1, 2)]
    both = Contamination("segment", pages[0]) | Contamination("segment", pages[1])
    assert (both.tokens_cut, both.totals()["pages_hit"]) == (15, 2)


@pytest.mark.slow
def test_on_ordinary_pages_almost_nothing_is_a_quotation(shared_data: Path, tmp_path: Path) -> None:
    """No false alarm on 900 pages without mathematics; 3-word answers and counting (the paper literally) give many."""
    problems = gsm8k.load(str(shared_data / "problems/gsm8k-test.jsonl.gz")) + math.load(str(shared_data / "problems/math-test.jsonl.gz"))
    for name in ("cmath-test", "mgsm_zh-mgsm_zh", "gaokao-mathcloze", "gaokao-mathqa", "mmlu_stem-test", "ocw-test", "sat-test"):
        problems += benchmark.load(str(shared_data / "benchmarks" / f"{name}.jsonl.gz"))
    with gzip.open(shared_data / "web/labels.jsonl.gz", "rt", encoding="utf-8") as file:
        ordinary = {record["url"] for record in map(json.loads, file) if record["label"] == "nonmath"}
    pages = [
        words(extract(page.html).text)
        for page in read_pages(str(shared_data / "web/sample.warc.gz"), 5_000_000)
        if not isinstance(page, Dropped) and page.url in ordinary
    ]
    assert len(pages) > 900

    def hits(**choices: bool | int) -> int:
        config = DecontaminationConfig(**choices)
        index = BenchmarkIndex(benchmark_texts(problems, config), config)
        return sum(bool(index.find(page)) for page in pages)

    assert hits() <= 1
    assert hits(distinct_words=0) <= 10
    assert hits(short_answers=True) > 15


def test_a_text_without_any_word_left_to_compare_is_no_benchmark() -> None:
    assert benchmark_texts([Problem(id="e", question="?!", answer="…")], DecontaminationConfig(short_answers=True, shortest=1)) == []
