"""Generated word problems: correct, varied, within a small vocabulary, and never shared between training and test."""

import random
import re

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.config import GeneratedProblems
from mathquarry.data.problems.generated import ONE_STEP, TWO_STEP, draw_problem, generate_problems
from mathquarry.data.programs.calculator import program_of, strip_marks, verified_program
from mathquarry.data.programs.steps import mark_steps

SMALL = GeneratedProblems(train=300, test=200)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", text.lower())


def ten_grams(text: str) -> set[tuple[str, ...]]:
    spoken = words(text)
    return {tuple(spoken[start : start + 10]) for start in range(len(spoken) - 9)}


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    assert generate_problems(SMALL, 3) == generate_problems(SMALL, 3)
    assert generate_problems(SMALL, 3) != generate_problems(SMALL, 4)


def test_no_question_occurs_twice_in_training_and_test_together():
    train, test = generate_problems(GeneratedProblems(train=4000, test=1000), 0)
    assert (len(train), len(test)) == (4000, 1000)
    assert len({problem.question for problem in train + test}) == 5000
    assert len({problem.id for problem in train + test}) == 5000


def test_held_out_problems_do_not_depend_on_the_number_of_training_problems():
    assert generate_problems(SMALL, 0)[1] == generate_problems(SMALL.model_copy(update={"train": 50}), 0)[1]


def test_every_solution_computes_the_answer_and_nothing_is_negative_or_too_large_in_the_question():
    train, _ = generate_problems(SMALL, 1)
    for problem in train:
        assert verified_program(problem.solution, problem.answer, problem.question), problem
        results = [int(line.rpartition("=")[2]) for line in strip_marks(problem.solution).splitlines()]
        assert min(results) >= 0
        assert results[-1] == int(problem.answer)
        assert all(2 <= int(number) <= SMALL.largest for number in re.findall(r"\d+", problem.question))


def test_a_solution_is_one_marked_step_a_line():
    train, _ = generate_problems(SMALL, 1)
    step = re.compile(r"(\d+[+-]\d+)=<<\1=(\d+)>>\2")
    assert all(step.fullmatch(line) for problem in train for line in problem.solution.splitlines())


def test_the_share_of_two_step_problems_is_met_exactly():
    train, test = generate_problems(SMALL.model_copy(update={"two_step_share": 0.25}), 0)
    assert [sum("\n" in problem.solution for problem in part) for part in (train, test)] == [75, 50]


def test_questions_need_few_words_and_come_from_many_templates():
    train, _ = generate_problems(GeneratedProblems(), 0)
    vocabulary = {word for problem in train for word in words(problem.question) if not word.isdigit()}
    assert len(vocabulary) < 150
    assert min(len(ONE_STEP), len(TWO_STEP)) >= 8
    assert all(12 <= len(words(problem.question)) <= 30 for problem in train)


def test_ten_words_in_a_row_rarely_recur_between_training_and_test():
    train, test = generate_problems(GeneratedProblems(), 0)
    held_out = set().union(*(ten_grams(problem.question) for problem in test))
    sharing = sum(bool(ten_grams(problem.question) & held_out) for problem in train)
    assert sharing / len(train) < 0.01


def test_results_may_exceed_the_largest_number_of_a_question():
    train, _ = generate_problems(SMALL, 0)
    assert max(int(problem.answer) for problem in train) > SMALL.largest


@pytest.mark.parametrize("steps", [1, 2])
def test_the_smallest_allowed_numbers_still_give_problems(steps):
    rng = random.Random(0)
    assert all(draw_problem(rng, 4, steps).question for _ in range(300))


def test_numbers_too_small_for_two_subtractions_are_refused():
    with pytest.raises(MathQuarryError, match="largest is 3"):
        generate_problems(GeneratedProblems(largest=3), 0)


def test_more_problems_than_there_are_is_an_error_that_names_the_remedy(monkeypatch):
    monkeypatch.setattr("mathquarry.data.problems.generated.TRIES", 1)
    with pytest.raises(MathQuarryError, match="raise `largest`"):
        generate_problems(GeneratedProblems(largest=4, train=200_000, test=1), 0)


def test_solutions_reuse_their_first_result_in_a_program():
    rng = random.Random(0)
    problem = draw_problem(rng, 12, 2)
    assert problem.solution.count("<<") == 2
    assert program_of(mark_steps(problem.solution)).splitlines()[-1] == "print(b)"
