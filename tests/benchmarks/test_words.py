import pytest

from tests.benchmarks.words import Agreement, agreement, text_of, words


def test_words_are_runs_of_letters_and_single_chinese_characters() -> None:
    assert words("The 3rd x, the 由题意 THE") == {"the": 3, "3rd": 1, "x": 1, "由": 1, "题": 1, "意": 1}


def test_a_word_counts_as_often_as_it_stands_there() -> None:
    found = agreement("a a b c", "a b b d")
    assert (found.precision, found.recall) == (0.5, 0.5)
    assert agreement("", "a") == agreement("b", "a") == Agreement(0.0, 0.0, 0.0)
    assert agreement("a b", "a b").f1 == pytest.approx(1.0)


def test_blocks_separate_words_and_inline_elements_do_not() -> None:
    assert text_of("<p>a<b>b</b></p><p>c</p><script>d</script><style>e</style>&eacute;").split() == ["ab", "c", "é"]
