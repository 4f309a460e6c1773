import random

import pytest

from data.config import DecontaminationConfig
from data.mine.decontaminate import BenchmarkIndex, Hit, benchmark_texts
from data.mine.hashing import words
from data.problems.problem import Problem

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
    return BenchmarkIndex(benchmark_texts(problems, config), config).find(page)


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
        assert (index.find(" ".join(page)) is not None) == slow


@pytest.mark.parametrize("page", ["", "one", "   ", "🙂"])
def test_pages_without_words_are_clean(page: str) -> None:
    assert find(page, LONG, SHORT) is None


def test_no_benchmarks_no_matches() -> None:
    assert find("anything at all") is None
