"""The value of an expression at given points: exact where arithmetic stays rational, else to 110 digits.

Two expressions are the same function when they agree at every one of a few random points where both are real. Agreement by chance is out of
the question at these precisions; what could be rounded away (a term 1e-80 of its neighbour) is an error, never an agreement.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath import MPContext

from data.grade.lexer import Unreadable
from data.grade.syntax import Tree

_DIGITS = 110
_mp = MPContext()
_mp.dps = _DIGITS
_ZERO = _mp.mpf(10) ** -95
"""Sums this much smaller than their terms are zero."""
_LOST = _mp.mpf(10) ** -80
"""A term this much smaller than the other would be lost."""
_EQUAL = _mp.mpf(10) ** -88

MAX_BITS = 20_000
"""Of an exact number; larger ones are kept to 110 digits."""
MAX_MAGNITUDE = 10**8
"""Bits before or behind the point of a number that is kept to 110 digits."""

Value = Any
"""A Fraction, or mpmath's real or complex number."""


class Undefined(ArithmeticError):
    """No value at this point: a division by zero, a logarithm of zero."""


class OutOfReach(Unreadable):
    """A value too large to be computed, or two that cannot be told apart."""


def number_at(tree: Tree, point: Mapping[str, Fraction], imaginary: bool = False) -> Value:
    """The value of `tree` where its symbols have the values of `point`; with `imaginary`, i is the imaginary unit.

    Raises `Undefined` where it has none, and `Unreadable` for what is no expression.
    """
    return _Evaluation(point, imaginary).value(tree)


def sample(name: str, trial: int, kind: str) -> Fraction:
    """A number for a symbol, always the same: `positive` in 0.3 to 3, `signed` in -3 to 3, `integer` in 1 to 9."""
    draw = int.from_bytes(hashlib.blake2b(f"{kind} {trial} {name}".encode(), digest_size=8).digest(), "big")
    if kind == "integer":
        return Fraction(1 + draw % 9)
    value = Fraction(300 + draw % 2701, 1009)
    return -value if kind == "signed" and draw >> 40 & 1 else value


def equal(a: Value, b: Value) -> bool:
    """Whether two values are the same, up to the last digits of what is not rational."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    if _is_infinite(a) or _is_infinite(b):
        return bool(_wide(a) == _wide(b))
    a, b = _wide(a), _wide(b)
    size = max(abs(a), abs(b))
    if not size:
        return True
    if not a or not b:
        return False
    return bool(abs(a - b) <= _EQUAL * size)


def is_real(value: Value) -> bool:
    """Whether a value has no imaginary part."""
    return isinstance(value, Fraction) or not isinstance(value, _mp.mpc) or not value.imag


def less(a: Value, b: Value) -> bool:
    """Whether a real value is smaller than another."""
    return bool(_wide(a) < _wide(b)) if not (isinstance(a, Fraction) and isinstance(b, Fraction)) else a < b


def difference(a: Value, b: Value) -> Value:
    """a - b, exact where both are."""
    return _sum(a, -b)


def quotient(a: Value, b: Value) -> Value:
    """a / b, exact where both are. Raises `Undefined` where b is zero."""
    if not b:
        raise Undefined
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else _wide(a) / _wide(b)


def between(a: Value, b: Value) -> Value:
    """The mean of two values."""
    return quotient(difference(a, -b), Fraction(2))


def within(a: Value, b: Value, tolerance: float) -> bool:
    """Whether two real values differ by no more than this share of the first."""
    return bool(abs(_wide(difference(a, b))) <= tolerance * (1 + _EQUAL) * abs(_wide(a)))


def rounds_to(exact: Value, decimal: Fraction, step: Fraction) -> bool:
    """Whether a written decimal, whose last digit weighs `step`, is `exact` rounded."""
    if not is_real(exact) or _is_infinite(exact):
        return False
    return bool(abs(_wide(exact) - _wide(decimal)) * 2 <= _wide(step) * (1 + _EQUAL))


class _Evaluation:
    def __init__(self, point: Mapping[str, Fraction], imaginary: bool) -> None:
        self.point, self.imaginary = point, imaginary

    def value(self, tree: Tree) -> Value:
        handle = getattr(self, _HANDLERS.get(tree.op, ""), None)
        if handle is None:
            raise Unreadable(f"{tree.op} is no expression")
        return handle(tree)

    def number(self, tree: Tree) -> Value:
        assert tree.number is not None
        return tree.number.value

    def symbol(self, tree: Tree) -> Value:
        name = tree.text
        if name == "pi":
            return _mp.pi + 0
        if name == "e":
            return _mp.e + 0
        if name == "i" and self.imaginary:
            return _mp.mpc(0, 1)
        if name not in self.point:
            raise Unreadable(f"{name} has no value")
        return self.point[name]

    def infinity(self, tree: Tree) -> Value:
        return _mp.inf

    def add(self, tree: Tree) -> Value:
        total: Value = Fraction(0)
        for part in tree.parts:
            total = _sum(total, self.value(part))
        return total

    def negative(self, tree: Tree) -> Value:
        return -self.value(tree.parts[0])

    def multiply(self, tree: Tree) -> Value:
        total: Value = Fraction(1)
        for part in tree.parts:
            total = _times(total, self.value(part))
        return total

    def divide(self, tree: Tree) -> Value:
        over, under = map(self.value, tree.parts)
        if not under or _is_infinite(under):
            raise Undefined
        return over / under if isinstance(over, Fraction) and isinstance(under, Fraction) else _checked(_wide(over) / _wide(under))

    def power(self, tree: Tree) -> Value:
        return _power(*map(self.value, tree.parts))

    def root(self, tree: Tree) -> Value:
        radicand, index = map(self.value, tree.parts)
        if not index:
            raise Undefined
        if not isinstance(index, Fraction) or index.denominator != 1 or not 1 <= index <= 1000:
            return _power(radicand, 1 / index)
        return _root(radicand, int(index))

    def absolute(self, tree: Tree) -> Value:
        return abs(self.value(tree.parts[0]))

    def factorial(self, tree: Tree) -> Value:
        return _factorial(self.value(tree.parts[0]))

    def call(self, tree: Tree) -> Value:
        if tree.text == "det":
            return self.determinant(tree.parts[0])
        arguments = [self.value(part) for part in tree.parts]
        return _call(tree.text, arguments)

    def determinant(self, tree: Tree) -> Value:
        if tree.op != "matrix" or any(len(row.parts) != len(tree.parts) for row in tree.parts) or len(tree.parts) > 4:
            return _call("det", [self.value(tree)])
        return _determinant([[self.value(cell) for cell in row.parts] for row in tree.parts])


_HANDLERS = {
    "number": "number",
    "symbol": "symbol",
    "infinity": "infinity",
    "+": "add",
    "-": "negative",
    "*": "multiply",
    "/": "divide",
    "^": "power",
    "root": "root",
    "abs": "absolute",
    "!": "factorial",
    "call": "call",
}


def _wide(value: Value) -> Value:
    if isinstance(value, Fraction):
        return _mp.mpf(value.numerator) / value.denominator
    return value


def _is_infinite(value: Value) -> bool:
    return not isinstance(value, Fraction) and bool(_mp.isinf(value))


def _checked(value: Value) -> Value:
    """A value that is a number, of a size that further steps can bear."""
    if isinstance(value, Fraction):
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            return _wide(value)
        return value
    if _mp.isnan(value):
        raise Undefined
    if isinstance(value, _mp.mpc):
        if not value.imag:
            return value.real
        if abs(value.imag) <= _ZERO * abs(value.real):
            return value.real
        if abs(value.real) <= _ZERO * abs(value.imag):
            value = _mp.mpc(0, value.imag)
    if value and not _mp.isinf(value) and abs(_mp.mag(value)) > MAX_MAGNITUDE:
        raise OutOfReach("a number out of reach")
    return value


def _sum(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return _checked(a + b)
    if not a or not b:
        return a or b
    a, b = _wide(a), _wide(b)
    total = a + b
    if _mp.isinf(total):
        return total
    sizes = abs(a), abs(b)
    if abs(total) <= _ZERO * max(sizes):
        return Fraction(0)
    if min(sizes) < _LOST * max(sizes):
        raise OutOfReach("a term that would be lost")
    return _checked(total)


def _times(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return _checked(a * b)
    if (not a or not b) and not (_is_infinite(a) or _is_infinite(b)):
        return Fraction(0)
    return _checked(_wide(a) * _wide(b))


def _power(base: Value, exponent: Value) -> Value:
    if _is_infinite(base) or _is_infinite(exponent):
        raise Undefined
    if not exponent:
        return Fraction(1)
    if not base:
        if is_real(exponent) and less(Fraction(0), exponent):
            return Fraction(0)
        raise Undefined
    if isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            power = int(exponent)
            if isinstance(base, Fraction):
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if abs(base) == 1 or bits * abs(power) <= MAX_BITS:
                    return base**power if abs(base) != 1 else base ** (power % 2)
            return _raised(base, exponent)
        if exponent.denominator <= 1000:
            return _power(_root(base, exponent.denominator), Fraction(exponent.numerator))
        if is_real(base) and less(base, Fraction(0)) and exponent.denominator % 2:
            value = _raised(-base, exponent)
            return -value if exponent.numerator % 2 else value
    return _raised(base, exponent)


def _raised(base: Value, exponent: Value) -> Value:
    """By logarithms; whether the result is of a bearable size is known before it is computed."""
    wide, power = _wide(base), _wide(exponent)
    magnitude = abs(_mp.mag(power)) if power else 0
    if magnitude > 64:
        raise OutOfReach("an exponent out of reach")
    if abs(_mp.log(abs(wide))) * abs(power) > MAX_MAGNITUDE:
        raise OutOfReach("a power out of reach")
    return _checked(wide ** (int(exponent) if isinstance(exponent, Fraction) and exponent.denominator == 1 else power))


def _root(value: Value, index: int) -> Value:
    """The real root where there is one (of negative numbers too, for an odd index), else the principal one."""
    if not value:
        return Fraction(0)
    if _is_infinite(value):
        return value
    if is_real(value) and less(value, Fraction(0)):
        if index % 2:
            return -_root(-value, index)
        if index == 2:
            return _checked(_mp.mpc(0, 1) * _wide(_root(-value, 2)))
    if isinstance(value, Fraction) and value > 0:
        over, under = _exact_root(value.numerator, index), _exact_root(value.denominator, index)
        if over is not None and under is not None:
            return Fraction(over, under)
    wide = _wide(value)
    return _checked(_mp.sqrt(wide) if index == 2 else _mp.root(wide, index) if is_real(wide) else wide ** (_mp.mpf(1) / index))


def _exact_root(value: int, index: int) -> int | None:
    if index == 2:
        found = math.isqrt(value)
    elif value.bit_length() > 1000:
        return None
    else:
        found = int(_mp.nint(_mp.root(_mp.mpf(value), index)))
    return found if found**index == value else None


def _factorial(value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise Undefined
        if value <= 5000:
            return _checked(Fraction(math.factorial(int(value))))
    if not is_real(value) or abs(_wide(value)) > 10**6:
        raise OutOfReach("a factorial out of reach")
    return _checked(_mp.gamma(_wide(value) + 1))


def _binomial(n: Value, k: Value) -> Value:
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1 and n >= 0:
        if k < 0 or k > n:
            return Fraction(0)
        smaller = min(k, n - k)
        if smaller * max(1, int(n).bit_length()) <= MAX_BITS:
            return Fraction(math.comb(int(n), int(smaller)))
        raise OutOfReach("a binomial coefficient out of reach")
    if max(abs(_wide(n)), abs(_wide(k))) > 10**6:
        raise OutOfReach("a binomial coefficient out of reach")
    return _checked(_mp.binomial(_wide(n), _wide(k)))


def _log(value: Value, base: Value | None = None) -> Value:
    if not value or _is_infinite(value):
        raise Undefined
    top = _snapped(_mp.log(_wide(value)))
    if base is None:
        return top
    under = _log(base)
    if not under:
        raise Undefined
    if isinstance(value, Fraction) and isinstance(base, Fraction):
        ratio = _mp.log(_wide(value)) / _mp.log(_wide(base))
        near = _mp.nint(ratio * 12) / 12 if is_real(ratio) else None
        if near is not None and abs(near - ratio) < _ZERO:
            return Fraction(int(_mp.nint(ratio * 12)), 12)
    return _checked(_wide(top) / _wide(under))


def _snapped(value: Value) -> Value:
    """Zero where only the last digits are left of a value of the size of one."""
    value = _checked(value)
    if is_real(value) and abs(_wide(value)) < _ZERO:
        return Fraction(0)
    return value


def _circular(function: Any) -> Any:
    def call(value: Value) -> Value:
        wide = _wide(value)
        if _is_infinite(wide) or _mp.mag(wide) > 100 or (not is_real(wide) and abs(wide.imag) > 10**6):
            raise OutOfReach("an angle out of reach")
        return _snapped(function(wide))

    return call


def _inverse(name: str) -> Any:
    return _circular(lambda value: _FUNCTIONS[name](1 / value if value else _undefined()))


def _undefined() -> Value:
    raise Undefined


def _divided(function: str, over: str | None = None) -> Any:
    def call(value: Value) -> Value:
        under = _FUNCTIONS[function](value)
        if not under:
            raise Undefined
        top = _FUNCTIONS[over](value) if over else Fraction(1)
        return _checked(_wide(top) / _wide(under))

    return call


def _whole(function: Any) -> Any:
    def call(*values: Value) -> Value:
        if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
            raise Undefined
        return Fraction(function(*(int(value) for value in values)))

    return call


def _rounded(function: Any) -> Any:
    def call(value: Value) -> Value:
        if not is_real(value) or abs(_wide(value)) > 10**90:
            raise OutOfReach("a number out of reach")
        if isinstance(value, Fraction):
            return Fraction(math.floor(value) if function is _mp.floor else math.ceil(value))
        near = _mp.nint(value)
        return Fraction(int(near if abs(value - near) < _mp.mpf(10) ** -60 else function(value)))

    return call


_FUNCTIONS: dict[str, Any] = {
    "sin": _circular(_mp.sin),
    "cos": _circular(_mp.cos),
    "tan": _divided("cos", "sin"),
    "cot": _divided("sin", "cos"),
    "sec": _divided("cos"),
    "csc": _divided("sin"),
    "sinh": _circular(lambda value: _small(_mp.sinh, value)),
    "cosh": _circular(lambda value: _small(_mp.cosh, value)),
    "tanh": _circular(lambda value: _small(_mp.tanh, value)),
    "coth": _circular(lambda value: _small(_mp.coth, value)),
    "arcsin": _circular(_mp.asin),
    "arccos": _circular(_mp.acos),
    "arctan": _circular(_mp.atan),
    "arccot": _circular(_mp.acot),
    "arcsinh": _circular(_mp.asinh),
    "arccosh": _circular(_mp.acosh),
    "arctanh": _circular(_mp.atanh),
    "ln": _log,
    "log": lambda value, base=Fraction(10): _log(value, base),
    "lg": lambda value: _log(value, Fraction(10)),
    "exp": lambda value: _power(_mp.e + 0, value),
    "floor": _rounded(_mp.floor),
    "ceil": _rounded(_mp.ceil),
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
    "mod": _whole(lambda a, b: a % b if b else _undefined()),
    "binom": _binomial,
    "max": lambda *values: _extreme(values, True),
    "min": lambda *values: _extreme(values, False),
    "norm": abs,
    "Re": lambda value: value if is_real(value) else value.real,
    "Im": lambda value: Fraction(0) if is_real(value) else value.imag,
}


def _small(function: Any, value: Value) -> Value:
    if abs(value) > 10**6:
        raise OutOfReach("a number out of reach")
    return function(value)


def _extreme(values: tuple[Value, ...], largest: bool) -> Value:
    if not all(map(is_real, values)):
        raise Undefined
    best = values[0]
    for value in values[1:]:
        best = value if less(best, value) == largest else best
    return best


def _call(name: str, arguments: list[Value]) -> Value:
    function = _FUNCTIONS.get(name)
    if function is None:
        return _unknown(name, tuple(_printed(argument) for argument in arguments))
    try:
        return function(*arguments)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise Undefined from error


def _printed(value: Value) -> str:
    """The value to 40 digits, so that two ways to the same argument give the same text."""
    return _mp.nstr(_wide(value), 40)


@lru_cache(maxsize=10_000)
def _unknown(name: str, arguments: tuple[str, ...]) -> Fraction:
    """The value of a function of which only the name is known, such as f."""
    return sample(f"{name}({', '.join(arguments)})", 0, "positive")


def _determinant(rows: list[list[Value]]) -> Value:
    if len(rows) == 1:
        return rows[0][0]
    total: Value = Fraction(0)
    for column, value in enumerate(rows[0]):
        minor = _determinant([[cell for place, cell in enumerate(row) if place != column] for row in rows[1:]])
        total = _sum(total, _times(-value if column % 2 else value, minor))
    return total
