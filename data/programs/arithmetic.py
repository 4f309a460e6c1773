"""An interpreter for straight-line arithmetic programs: assignments of numbers and `print(name)`, nothing else.

It runs the programs that curation writes from worked solutions, to check them against the gold answer. It interprets the syntax tree and
never passes text to Python's `exec` or `eval`, so it is also safe for a model's programs (`ArithmeticSandbox`) if they need no more than
this, as in the recipe `tiny`. The sandbox for the whole language is `data/programs/sandbox.py`.

Deliberate differences from Python:
1. Arithmetic is exact (fractions), so `0.1+0.2` is 0.3.
2. A whole number prints without `.0`, so `48/2` prints 24.
`python_output` gives what Python prints.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from types import TracebackType
from typing import Self

from mathquarry.data.programs.interface import Result

MAX_CHARACTERS = 4000
MAX_NODES = 1000
"""Most nodes of the syntax tree. Without loops and calls, each is evaluated once, so this limits the steps."""
MAX_DEPTH = 60
MAX_EXPONENT = 64
MAX_BITS = 256
"""Most bits of a number's numerator or denominator: about 77 decimal digits."""

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda left, right: Fraction(left // right),
    ast.Mod: operator.mod,
}

_PYTHON_OPERATORS: dict[type[ast.operator], Callable[[int | float, int | float], int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class ProgramError(ValueError):
    """A program that is rejected or fails; the message says why and names the line."""


def run_program(source: str, values: dict[str, Fraction] | None = None) -> str:
    """The program's output, one number per line. `values` maps names to existing values; assignments are added to it.

    Allowed: `name = expression` and `print(name)`; expressions of numbers, assigned names, `+ - * / // % **`, signs and parentheses.
    Raises `ProgramError` for anything else, for division by zero, for a name without a value, and beyond the limits above.
    """
    if len(source) > MAX_CHARACTERS:
        raise ProgramError(f"the program has {len(source)} characters; at most {MAX_CHARACTERS} are allowed")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(f"not a program: {error}") from None
    nodes = sum(1 for _ in ast.walk(tree))
    if nodes > MAX_NODES:
        raise ProgramError(f"the program has {nodes} parts; at most {MAX_NODES} are allowed")
    values = {} if values is None else values
    printed: list[str] = []
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=expression):
                values[name] = evaluate(expression, values)
            case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=[ast.Name() as name], keywords=[])):
                printed.append(format_number(evaluate(name, values)))
            case _:
                raise _refused(statement)
    return "\n".join(printed)


def python_output(source: str) -> str:
    """Python's own output for a program that `run_program` accepts: 48/2 is `24.0`, 0.1+0.2 is `0.30000000000000004`.

    The model sees such output from the sandbox, so it learns from such output. Raises `ProgramError` as `run_program` does, and
    if floats fail where fractions do not: by dividing by zero, or with a result that is complex, infinite or NaN.
    """
    run_program(source)
    values: dict[str, int | float] = {}
    printed: list[str] = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            assert isinstance(target, ast.Name), "run_program accepts no other"
            values[target.id] = _in_floats(statement.value, values)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            printed.append(str(_in_floats(statement.value.args[0], values)))
    return "\n".join(printed)


def _in_floats(node: ast.expr, values: dict[str, int | float]) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=op, operand=operand):
            value = _in_floats(operand, values)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            apply = _PYTHON_OPERATORS[type(op)]
            try:
                value = apply(_in_floats(left, values), _in_floats(right, values))
            except (ZeroDivisionError, OverflowError) as error:  # 1/(1+1e-20-1) divides by zero in floats, and only there
                raise ProgramError(f"line {node.lineno}: {error} in `{ast.unparse(node)}`") from None
            if isinstance(value, complex) or not math.isfinite(value):
                raise ProgramError(f"line {node.lineno}: `{ast.unparse(node)}` is {value} in floats")
            return value
    raise _refused(node)


class ArithmeticSandbox:
    """A `Sandbox` (data/programs/sandbox.py) for programs of plain arithmetic: no process, no setup, on any machine."""

    def run(self, program: str) -> Result:
        """See `Sandbox.run`."""
        return self.session().run(program)

    def session(self) -> ArithmeticSession:
        """See `Sandbox.session`."""
        return ArithmeticSession()

    def close(self) -> None:
        """Does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class ArithmeticSession:
    """A `Session` that consists of the values of its names."""

    def __init__(self) -> None:
        self._values: dict[str, Fraction] = {}

    def run(self, program: str) -> Result:
        """See `Session.run`."""
        try:
            return Result(run_program(program, self._values))
        except ProgramError as error:
            return Result("", error=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Forget the values."""
        self._values.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def evaluate(node: ast.expr, values: dict[str, Fraction], depth: int = 0) -> Fraction:
    """The value of an expression's syntax tree. Raises `ProgramError` as `run_program` does."""
    if depth > MAX_DEPTH:
        raise ProgramError(f"line {node.lineno}: nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=bool() | complex()):
            raise _refused(node)
        case ast.Constant(value=int() | float() as number):
            return _bounded(_literal(number, node), node)
        case ast.Name(id=name):
            if name not in values:
                raise ProgramError(f"line {node.lineno}: `{name}` has no value")
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand, values, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return evaluate(operand, values, depth + 1)
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(_apply(op, evaluate(left, values, depth + 1), evaluate(right, values, depth + 1), node), node)
        case _:
            raise _refused(node)


def format_number(value: Fraction) -> str:
    """Format integers as such, finite decimals in full up to 15 digits, and anything else like the nearest float."""
    if value.denominator == 1:
        return str(value.numerator)
    for digits in range(1, 16):
        scaled = value * 10**digits
        if scaled.denominator == 1:
            whole, part = divmod(abs(scaled.numerator), 10**digits)
            return f"{'-' if value < 0 else ''}{whole}.{part:0{digits}d}"
    return repr(float(value))


def _apply(op: ast.operator, left: Fraction, right: Fraction, node: ast.expr) -> Fraction:
    try:
        if isinstance(op, ast.Pow):
            return _power(left, right, node)
        if type(op) not in _OPERATORS:
            raise _refused(node)
        return _OPERATORS[type(op)](left, right)
    except ZeroDivisionError:
        raise ProgramError(f"line {node.lineno}: division by zero in `{ast.unparse(node)}`") from None


def _power(base: Fraction, exponent: Fraction, node: ast.expr) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise ProgramError(f"line {node.lineno}: exponents must be whole and at most {MAX_EXPONENT}")
    return Fraction(base ** int(exponent))


def _literal(number: int | float, node: ast.expr) -> Fraction:
    """A literal's exact value: 0.1 is a tenth, not the binary fraction nearest to it."""
    try:
        return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
    except ValueError:
        raise ProgramError(f"line {node.lineno}: a number is too large") from None


def _bounded(value: Fraction, node: ast.expr) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ProgramError(f"line {node.lineno}: a number is too large or too fine")
    return value


def _refused(node: ast.stmt | ast.expr) -> ProgramError:
    return ProgramError(f"line {node.lineno}: {type(node).__name__} is not allowed: only `name = arithmetic` and `print(name)` are")
