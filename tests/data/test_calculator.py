"""Calculator marks become programs that are run and compared with the gold answer."""

import pytest

from data.problems import gsm8k
from data.programs.arithmetic import ProgramError, run_program
from data.programs.calculator import AnswerDiffersError, program_from_marks, strip_marks, variable, verified_program

NATALIA = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether."


def test_an_earlier_result_is_written_as_its_variable():
    assert program_from_marks(NATALIA) == "a=48/2\nb=48+a\nprint(b)"


def test_without_reuse_the_written_numbers_stay():
    assert program_from_marks(NATALIA, reuse=False) == "a=48/2\nb=48+24\nprint(b)"


def test_the_latest_of_equal_results_is_reused():
    assert program_from_marks("<<1+2=3>> <<5-2=3>> <<3*2=6>>") == "a=1+2\nb=5-2\nc=b*2\nprint(c)"


def test_numbers_inside_longer_numbers_are_not_mistaken_for_results():
    assert program_from_marks("<<1+1=2>> <<22*2.5=55>>") == "a=1+1\nb=22*2.5\nprint(b)"


def test_written_forms_that_python_refuses_are_mended():
    assert program_from_marks("<<$1,000*.5=500.00>> <<05+500=505>>") == "a=1000*0.5\nb=5+a\nprint(b)"


def test_rounding_between_steps_falls_back_on_the_written_numbers():
    solution = "<<10/3=3.33>> <<3.33*2=6.66>>"
    assert verified_program(solution, "6.66") == "a=10/3\nb=3.33*2\nprint(b)"


def test_a_program_that_misses_the_gold_answer_is_refused():
    with pytest.raises(AnswerDiffersError, match="prints 72, the answer is 71"):
        verified_program(NATALIA, "71")


@pytest.mark.parametrize("solution", ["<<4/0=0>>", "<<48/2>>", "<<3*+=18>>", "<<x+1=3>>", "<<1+1=two>>"])
def test_marks_that_are_no_arithmetic_are_refused(solution):
    with pytest.raises(ProgramError):
        verified_program(solution, "0")


def test_a_solution_without_marks_has_no_program():
    assert program_from_marks("It is 72.") is None
    assert verified_program("It is 72.", "72") is None


def test_marks_are_stripped_and_the_text_stays():
    assert strip_marks(NATALIA) == "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether."


def test_variables_never_repeat_nor_clash_with_words_of_python():
    names = [variable(step) for step in range(200)]
    assert len(set(names)) == 200
    assert all(name.isidentifier() and name not in {"if", "is", "in", "as", "or"} for name in names)


def test_more_than_nine_in_ten_gsm8k_solutions_become_programs_that_give_the_answer(shared_data):
    problems = gsm8k.load(str(shared_data / "problems" / "gsm8k-train.jsonl.gz"))[:1000]
    verified = 0
    for problem in problems:
        try:
            program = verified_program(problem.solution, problem.answer)
        except ProgramError:
            continue
        if program is not None:
            assert float(run_program(program)) == float(problem.answer)
            verified += 1
    assert verified / len(problems) > 0.9
