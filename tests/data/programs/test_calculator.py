"""Worked solutions become programs that are run, compute the gold answer, and never just state it."""

import ast
from fractions import Fraction

import pytest

from mathquarry.data.problems import gsm8k
from mathquarry.data.programs.arithmetic import ProgramError, run_program
from mathquarry.data.programs.calculator import AnswerDiffersError, program_of, strip_marks, variable, verified_program
from mathquarry.data.programs.steps import mark_steps

NATALIA = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether."


def from_marks(solution, reuse="all"):
    return program_of(mark_steps(solution), reuse)


def test_an_earlier_result_is_written_as_its_variable():
    assert from_marks(NATALIA) == "a=48/2\nb=48+a\nprint(b)"


def test_the_latest_of_equal_results_is_reused():
    assert from_marks("<<1+2=3>> <<5-2=3>> <<3*2=6>>") == "a=1+2\nb=5-2\nc=b*2\nprint(c)"


def test_a_number_that_stands_twice_is_a_result_once_and_not_as_the_divisor():
    assert from_marks("<<30*2=60>> <<60/60=1>>") == "a=30*2\nb=a/60\nprint(b)"
    assert from_marks("<<4-1=3>> <<2/3*3=2>>") == "a=4-1\nb=2/3*a\nprint(b)"


def test_numbers_inside_longer_numbers_are_not_mistaken_for_results():
    assert from_marks("<<1+1=2>> <<22*2.5=55>>") == "a=1+1\nb=22*2.5\nprint(b)"


def test_written_forms_that_python_refuses_are_mended():
    assert from_marks("<<$1,000*.5=500.00>> <<05+500=505>>") == "a=1000*0.5\nb=5+a\nprint(b)"


def test_where_rounding_between_steps_spoils_the_answer_rounded_results_stay_as_written():
    solution = "<<10/3=3.33>> <<3.33*2=6.66>>"
    assert verified_program(solution, "6.66") == "a=10/3\nb=3.33*2\nprint(b)"


def test_a_program_that_misses_the_gold_answer_is_refused():
    with pytest.raises(AnswerDiffersError, match="prints 72, the answer is 71"):
        verified_program(NATALIA, "71")


def test_a_gold_answer_that_is_no_number_is_refused():
    with pytest.raises(ProgramError, match="the answer red is not a number"):
        verified_program(NATALIA, "red")


@pytest.mark.parametrize("solution", ["It is 72.", "<<48/2>>", "<<3*+=18>>", "<<x+1=3>>", "<<4/0=0>>", "x=<<72=72>>72"])
def test_a_solution_that_calculates_nothing_has_no_program(solution):
    assert verified_program(solution, "72") is None


@pytest.mark.parametrize(
    ("solution", "answer", "program"),
    [
        ("He has 6 x 3 = <<6*3=18>>18 pens. He keeps 18 pens - 4 pens = 14 pens.", "14", "a=6*3\nb=a-4\nprint(b)"),
        ("He has 400-120 = 280 roses.\nHe sells $0.75 x 280 = $210 worth.", "210", "a=400-120\nb=0.75*a\nprint(b)"),
        ("There are 5 points/dollar * 120 dollars = 600 points.", "600", "a=5*120\nprint(a)"),
        ("The splash is 7 because 1.5 plus 1.5 plus 4 equals 7.", "7", "a=1.5+1.5+4\nprint(a)"),
        ("It takes 2 miles / 1/6 hour = 12 hours.", "12", "a=2/(1/6)\nprint(a)"),
        ("He needs 2 + 1 1/2 = 3 1/2 feet and 3 1/2 * 2 = 7 feet.", "7", "a=2+(1+1/2)\nb=(3+1/2)*2\nprint(b)"),
        ("They sell 40(.50)=20 ducks and 20(.30)=6 geese.", "6", "a=40*0.5\nb=a*0.3\nprint(b)"),
    ],
)
def test_equations_in_the_text_are_steps_too(solution, answer, program):
    got = verified_program(solution, answer)
    assert got is not None
    assert got.replace("2+(1+1/2)", "2+1+1/2") == program.replace("2+(1+1/2)", "2+1+1/2")


@pytest.mark.parametrize(
    ("solution", "answer", "program"),
    [
        ("We get 9m - 7 + m = 93\nso 10m = 100\nand m = 10\nand e = 9 * 10 - 7 = 83", "83", "a=(93+7)/(9+1)\nb=9*a-7\nprint(b)"),
        ("x+3*x+3*x+2=142\n7*x=140\nx=<<20=20>>20", "20", "a=(142-2)/(1+3+3)\nprint(a)"),
        ("15 + x = 3(x - 5)\nx = 15", "15", "a=(3*5+15)/(3-1)\nprint(a)"),
        ("2.5 = 40 - y/2", "75", "a=(40-2.5)/(1/2)\nprint(a)"),
        ("Remy = 3R + 1\n4R + 1 = 33\nR = 8\nRemy used 25 gallons.", "25", "a=(33-1)/4\nb=3*a+1\nprint(b)"),
        ("We see that x+(2*x)+(2*x)=60, so x=12 peaches", "12", "a=60/(1+2+2)\nprint(a)"),
    ],
)
def test_an_unknown_is_solved_for_from_the_numbers_of_its_equation(solution, answer, program):
    assert verified_program(solution, answer) == program
    assert Fraction(run_program(program)) == Fraction(answer)


def test_an_equation_whose_solution_the_text_contradicts_is_no_step():
    with pytest.raises(AnswerDiffersError):
        verified_program("3x = 30, so x = 9.\nThere are 2 + 2 = 4 of them.", "10")


def test_arithmetic_that_does_not_hold_is_no_step():
    assert verified_program("He has 2 + 2 = 5 apples.", "4") is None


@pytest.mark.parametrize("solution", ["There are 102 - 71 = <<31*1=31>>31 left", "There are 31+0=31 left", "There are 31/1 = 31 left"])
def test_the_answer_may_not_come_out_of_itself(solution):
    with pytest.raises(AnswerDiffersError):
        verified_program(solution, "31", "How many are left?")


def test_a_number_of_the_question_may_be_the_answer():
    assert verified_program("It costs $31*1=$31", "31", "A shirt costs $31.") == "a=31*1\nprint(a)"


def test_an_earlier_step_is_printed_only_when_the_solution_ends_with_its_result():
    solution = "He drank 12-10 = 2 and 4*2 = 8.\n{}"
    assert verified_program(solution.format("So 2 are left."), "2") == "a=12-10\nprint(a)"
    with pytest.raises(AnswerDiffersError):
        verified_program(solution.format("So 8 are left."), "2")


@pytest.mark.parametrize(
    ("solution", "answer", "last"),
    [
        ("She saved 210 / 350 = 0.60 or 60% off.", "60", "b=a*100"),
        ("50 / 15 = 3.33, which rounds up to 4.", "4", "b=-(-a//1)"),
        ("50 / 15 = 3.33, which rounds down to 3.", "3", "b=a//1"),
        ("She runs 3 / 6 = .5 hour, which is 30 minutes.", "30", "b=a*60"),
    ],
)
def test_rounding_and_conversions_that_the_text_states_in_words_are_a_last_step(solution, answer, last):
    program = verified_program(solution, answer)
    assert program is not None
    assert program.splitlines()[-2] == last


def test_marks_are_stripped_and_the_text_stays():
    assert strip_marks(NATALIA) == "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether."


def test_variables_never_repeat_nor_clash_with_words_of_python():
    names = [variable(step) for step in range(200)]
    assert len(set(names)) == 200
    assert all(name.isidentifier() and name not in {"if", "is", "in", "as", "or"} for name in names)


@pytest.mark.slow
def test_99_in_100_gsm8k_train_solutions_become_programs_that_compute_the_gold_answer(shared_data):
    problems = gsm8k.load(str(shared_data / "problems" / "gsm8k-train.jsonl.gz"))
    verified = 0
    for problem in problems:
        try:
            program = verified_program(problem.solution, problem.answer, problem.question)
        except ProgramError:
            continue
        if program is None:
            continue
        assert Fraction(run_program(program)) == Fraction(problem.answer)
        assignments = [line.value for line in ast.parse(program).body if isinstance(line, ast.Assign)]
        assert all(any(isinstance(part, ast.BinOp) for part in ast.walk(value)) for value in assignments), f"{problem.id} states a number"
        verified += 1
    assert verified / len(problems) >= 0.99, f"{verified} of {len(problems)}"
