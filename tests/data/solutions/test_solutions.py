"""Answers, prompts and the file of solutions."""

import json

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.answers import extract_answer, lenient_answer
from mathquarry.data.solutions.example import Example, Segment, read_examples, write_examples
from mathquarry.data.solutions.prompts import prompt_text, user_message

EXAMPLE = Example("p-1", "1+1?", "tool", "en", [Segment("```python\n"), Segment("2\n", trained=False), Segment("\\boxed{2}")], "2")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}", "12"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed {4}", "4"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
        (r"\boxed{a \\}", r"a \\"),
        (r"\boxed{}", ""),
        (r"\boxed{7} and \boxed{8", "7"),
        (r"\boxed{8", None),
        (r"\boxed 9", "9"),
        (r"so \boxed 42.", "42"),
        (r"\boxed\frac{1}{2}", r"\frac{1}{2}"),
        (r"\fbox{42}", "42"),
        (r"\boxed{42}. Put the answer in \boxed{}.", "42"),
        (r"\boxed{1}\boxed{2}", "1, 2"),
        ("\\boxed{1}\n\\boxed{2}", "2"),
        (r"\boxed{1} or \boxed{2}", r"1 \text{ or } 2"),
        (r"\boxed{1} or maybe \boxed{2}", r"1 \text{ or } 2"),
        (r"\boxed{1}/\boxed{2}", r"1 \text{ or } 2"),
        (r"either \boxed{1} or it is \boxed{2}", r"1 \text{ or } 2"),
        (r"\boxed{2}, or equivalently \boxed{\frac{4}{2}}", r"\frac{4}{2}"),
        (r"I tried \boxed{1} or so. Now \boxed{2}", "2"),
        (r"$x=\boxed{1}$ and $x=\boxed{2}$", "1, 2"),
        (r"\boxed{8\}", None),
        ("\\boxed{8\\", None),
        ("no box", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_box_whose_braces_balance(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is 7, so \boxed{12}", "12"),
        ("The answer is 7.", "7"),
        ("The final answer is $\\frac{1}{2}$. I hope it is correct.", r"\frac{1}{2}"),
        ("So the answer is (B).", "B"),
        ("The answer is 1,234.5 dollars.", "1,234.5"),
        ("#### 72", "72"),
        ("所以答案是 12。", "12"),
        ("答案为：3.5", "3.5"),
        ("故选 C。", "C"),
        ("First 3.\nThen 3 + 4 = 7", "7"),
        ("That leaves 5 apples", "5"),
        ("The answer is $1$ or $2$.", r"1 \text{ or } 2"),
        ("The answer is 18 dollars or 20 dollars.", r"18 \text{ or } 20"),
        ("The answer is $x=1$, $y=2$.", "x=1, y=2"),
        ("x = 3 or x = 4", r"3 \text{ or } 4"),
        ("The answer is x > 3", "x > 3"),
        ("The answer is 5:30 pm.", "5:30 pm"),
        ("The answer is A or B.", "A or B"),
        ("The correct choice is (D).", "D"),
        ("因此选B", "B"),
        ("The answer is $\\boxed{}$ 5", "5"),
        ("No idea", None),
    ],
)
def test_the_lenient_answer_is_the_box_or_what_a_reader_would_take(text, answer):
    assert lenient_answer(text) == answer


def test_reading_answers_takes_time_in_proportion_to_the_text():
    # Quadratic readers take minutes here.
    for fragment in ("\\boxed", "\\boxed ", "\\text{ ", " ", "\\boxed{", "{", "}", "answer is ", "\\boxed{1} and ", "$", "1/"):
        text = "\\boxed{1}\\text{" + fragment * (200_000 // len(fragment)) + "\\boxed{2}"
        extract_answer(text)
        lenient_answer(text)


def test_paper_prompts_are_the_papers_sentences_in_its_frame():
    assert prompt_text("1+1?", "cot", "en", "paper") == (
        "User: 1+1?\nPlease reason step by step, and put your final answer within \\boxed{}.\n\nAssistant:"
    )
    assert user_message("1+1?", "cot", "zh", "paper") == "1+1?\n请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。"
    assert user_message("1+1?", "tool", "zh", "paper") == "1+1?\n请结合自然语言和Python程序语言来解答问题，并把最终答案放置于\\boxed{}中。"
    assert user_message("1+1?", "tool", "en", "own") == user_message("1+1?", "tool", "en", "paper")


@pytest.mark.parametrize(("format", "word"), [("cot", "Answer:"), ("pot", "Program:"), ("tool", "Tool:")])
def test_short_prompts_are_the_question_and_one_word(format, word):
    assert prompt_text("1+1?", format, "en", "short") == f"1+1?\n{word}" == user_message("1+1?", format, "zh", "short")


def test_examples_survive_writing_and_reading(tmp_path):
    path = tmp_path / "examples.jsonl"
    assert write_examples(path, [EXAMPLE, EXAMPLE]) == 2
    assert read_examples(path) == [EXAMPLE, EXAMPLE]
    assert EXAMPLE.text == "```python\n2\n\\boxed{2}"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "prose"},
        {"segments": None},
        {"segments": [{"words": "x"}]},
        {"extra": 1},
    ],
)
def test_a_bad_example_names_file_and_line(tmp_path, change):
    path = tmp_path / "examples.jsonl"
    write_examples(path, [EXAMPLE])
    path.write_text(path.read_text() + json.dumps(json.loads(path.read_text()) | change) + "\n")
    with pytest.raises(MathQuarryError, match=r"examples\.jsonl, line 2"):
        read_examples(path)


def test_a_missing_and_an_empty_file_of_examples_are_errors(tmp_path):
    with pytest.raises(MathQuarryError, match="does not exist"):
        read_examples(tmp_path / "examples.jsonl")
    (tmp_path / "examples.jsonl").write_text("")
    with pytest.raises(MathQuarryError, match="contains no solutions"):
        read_examples(tmp_path / "examples.jsonl")
