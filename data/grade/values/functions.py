"""Functions by name: trigonometric, rounding, number theory, extremes, and unknown ones such as f."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mathquarry.data.grade.values.arithmetic import OutOfReach, Undefined, Value, checked, is_infinite, is_real, less, mp, wide
from mathquarry.data.grade.values.powers import binomial, log, power, snapped
from mathquarry.data.grade.values.samples import sample


def _circular(function: Any) -> Any:
    def call(value: Value) -> Value:
        number = wide(value)
        if is_infinite(number) or mp.mag(number) > 100 or (not is_real(number) and abs(number.imag) > 10**6):
            raise OutOfReach("an angle out of reach")
        return snapped(function(number))

    return call


def _inverse(name: str) -> Any:
    return _circular(lambda value: FUNCTIONS[name](1 / value if value else _undefined()))


def _undefined() -> Value:
    raise Undefined


def _divided(function: str, over: str | None = None) -> Any:
    def call(value: Value) -> Value:
        under = FUNCTIONS[function](value)
        if not under:
            raise Undefined
        top = FUNCTIONS[over](value) if over else Fraction(1)
        return checked(wide(top) / wide(under))

    return call


def _whole(function: Any) -> Any:
    def call(*values: Value) -> Value:
        if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
            raise Undefined
        return Fraction(function(*(int(value) for value in values)))

    return call


def _rounded(function: Any) -> Any:
    def call(value: Value) -> Value:
        if not is_real(value) or abs(wide(value)) > 10**90:
            raise OutOfReach("a number out of reach")
        if isinstance(value, Fraction):
            return Fraction(math.floor(value) if function is mp.floor else math.ceil(value))
        near = mp.nint(value)
        return Fraction(int(near if abs(value - near) < mp.mpf(10) ** -60 else function(value)))

    return call


FUNCTIONS: dict[str, Any] = {
    "sin": _circular(mp.sin),
    "cos": _circular(mp.cos),
    "tan": _divided("cos", "sin"),
    "cot": _divided("sin", "cos"),
    "sec": _divided("cos"),
    "csc": _divided("sin"),
    "sinh": _circular(lambda value: _small(mp.sinh, value)),
    "cosh": _circular(lambda value: _small(mp.cosh, value)),
    "tanh": _circular(lambda value: _small(mp.tanh, value)),
    "coth": _circular(lambda value: _small(mp.coth, value)),
    "arcsin": _circular(mp.asin),
    "arccos": _circular(mp.acos),
    "arctan": _circular(mp.atan),
    "arccot": _circular(mp.acot),
    "arcsinh": _circular(mp.asinh),
    "arccosh": _circular(mp.acosh),
    "arctanh": _circular(mp.atanh),
    "ln": log,
    "log": lambda value, base=Fraction(10): log(value, base),
    "lg": lambda value: log(value, Fraction(10)),
    "cis": _circular(mp.expj),
    "exp": lambda value: power(mp.e + 0, value),
    "floor": _rounded(mp.floor),
    "ceil": _rounded(mp.ceil),
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
    "mod": _whole(lambda a, b: a % b if b else _undefined()),
    "binom": binomial,
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


def call(name: str, arguments: list[Value]) -> Value:
    """The value of a named function. Raises `Undefined` if it has none."""
    function = FUNCTIONS.get(name)
    if function is None:
        return _unknown(name, tuple(_printed(argument) for argument in arguments))
    try:
        return function(*arguments)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise Undefined from error


def _printed(value: Value) -> str:
    """The value to 40 digits, so that two ways to compute the same argument give the same text."""
    return mp.nstr(wide(value), 40)


@lru_cache(maxsize=10_000)
def _unknown(name: str, arguments: tuple[str, ...]) -> Fraction:
    """A value for a function of which only the name is known, such as f."""
    return sample(f"{name}({', '.join(arguments)})", 0, "positive")
