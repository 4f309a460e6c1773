"""The interpreter for curated programs: exact, small, and limited to arithmetic."""

import subprocess
import sys

import pytest

from mathquarry.data.programs.arithmetic import MAX_CHARACTERS, ProgramError, python_output, run_program


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("a=48/2\nb=48+a\nprint(b)", "72"),
        ("a=0.1+0.2\nprint(a)", "0.3"),
        ("a=1/8\nprint(a)", "0.125"),
        ("a=1/3\nprint(a)", "0.3333333333333333"),
        ("a=-(2-7)*3\nprint(a)", "15"),
        ("a=+3\nprint(a)", "3"),
        ("a=0.5-2\nprint(a)", "-1.5"),
        ("a=-1/1000\nprint(a)", "-0.001"),
        ("a=7//2\nb=7%2\nc=2**10\nd=2**-1\nprint(a)\nprint(b)\nprint(c)\nprint(d)", "3\n1\n1024\n0.5"),
        ("a=-7//2\nb=-7%3\nprint(a)\nprint(b)", "-4\n2"),
        ("a=1\na=a+1\nprint(a)", "2"),
        ("a=1e3\nprint(a)", "1000"),
        ("a=1", ""),
    ],
)
def test_programs_print_exact_values_and_whole_numbers_as_such(program, printed):
    assert run_program(program) == printed


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os", "Import is not allowed"),
        ("a=__import__('os')", "Call is not allowed"),
        ("a=().__class__", "Attribute is not allowed"),
        ("a='x'*3", "Constant is not allowed"),
        ("a=True", "Constant is not allowed"),
        ("a=1j", "Constant is not allowed"),
        ("a=[1]", "List is not allowed"),
        ("a=1 if 1 else 2", "IfExp is not allowed"),
        ("a=~1", "UnaryOp is not allowed"),
        ("a=1|2", "BinOp is not allowed"),
        ("a=(b:=1)", "NamedExpr is not allowed"),
        ("a=b=1", "Assign is not allowed"),
        ("a,b=1,2", "Assign is not allowed"),
        ("a+=1", "AugAssign is not allowed"),
        ("while 1:\n  a=1", "While is not allowed"),
        ("print(1+1)", "Expr is not allowed"),
        ("a=1\nprint(a,a)", "Expr is not allowed"),
        ("a=1\nprint(a,end=a)", "Expr is not allowed"),
        ("a=1\nprint(*a)", "Expr is not allowed"),
        ("1+1", "Expr is not allowed"),
        ("a=1/0", "division by zero in `1 / 0`"),
        ("a=1%0", "division by zero"),
        ("a=0**-1", "division by zero"),
        ("print(a)", "`a` has no value"),
        ("a=1+", "not a program"),
        ("a=1\0", "not a program"),
        ("a=2**65", "exponents must be whole and at most 64"),
        ("a=2**0.5", "exponents must be whole"),
        ("a=10**60\nb=a*a", "line 2: a number is too large"),
        ("a=9**9**9", "exponents must be whole and at most 64"),
        ("a=1e999", "a number is too large"),
        ("a=" + "9" * 200, "a number is too large"),
        ("a=1" + "+1" * 100, "nested more than"),
        ("a=" + "-" * 3000 + "1", "nested|not a program|parts"),
        ("a=" + "(" * 300 + "1" + ")" * 300, "not a program"),
        ("a=1\n" * (MAX_CHARACTERS // 4 + 1), "characters"),
        ("a=1\n" * (MAX_CHARACTERS // 4), "parts"),
    ],
)
def test_anything_but_bounded_arithmetic_is_refused_with_the_reason(program, reason):
    with pytest.raises(ProgramError, match=reason):
        run_program(program)


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("a=48/2\nb=48+a\nprint(b)", "72.0"),
        ("a=2*3\nprint(a)", "6"),
        ("a=0.1+0.2\nprint(a)", "0.30000000000000004"),
        ("a=-(-7//2)\nprint(a)", "4"),
    ],
)
def test_python_output_is_what_python_itself_prints(program, printed):
    assert python_output(program) == printed
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out == printed + "\n"


def test_python_output_refuses_what_run_program_refuses():
    with pytest.raises(ProgramError, match="Call is not allowed"):
        python_output("a=__import__('os')")
