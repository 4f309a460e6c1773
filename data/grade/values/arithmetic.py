"""Exact and high-precision numbers: rational if arithmetic stays rational, else 110 digits, with no silent loss of precision."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from mpmath import MPContext

from mathquarry.data.grade.reading.tokens import Unreadable

_DIGITS = 110

mp = MPContext()
mp.dps = _DIGITS
ZERO = mp.mpf(10) ** -95
"""Sums this much smaller than their terms are zero."""

_LOST = mp.mpf(10) ** -80
"""A term this much smaller than the other would be lost."""

_EQUAL = mp.mpf(10) ** -88

MAX_BITS = 20_000
"""Largest exact number; larger ones are kept to 110 digits."""

MAX_MAGNITUDE = 10**8
"""Most bits before or after the point of a number that is kept to 110 digits."""

Value = Any
"""A Fraction, or mpmath's real or complex number."""


class Undefined(ArithmeticError):
    """Raised where an expression has no value: a division by zero, a logarithm of zero."""


class OutOfReach(Unreadable):
    """A value that is too large to compute, or two values that cannot be distinguished."""


def equal(a: Value, b: Value) -> bool:
    """Whether two values are equal, up to the last digits of irrational ones."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    if is_infinite(a) or is_infinite(b):
        return bool(wide(a) == wide(b))
    a, b = wide(a), wide(b)
    size = max(abs(a), abs(b))
    if not size:
        return True
    if not a or not b:
        return False
    return bool(abs(a - b) <= _EQUAL * size)


def is_real(value: Value) -> bool:
    """Whether a value has no imaginary part."""
    return isinstance(value, Fraction) or not isinstance(value, mp.mpc) or not value.imag


def less(a: Value, b: Value) -> bool:
    """Whether a real value is smaller than another."""
    return bool(wide(a) < wide(b)) if not (isinstance(a, Fraction) and isinstance(b, Fraction)) else a < b


def difference(a: Value, b: Value) -> Value:
    """a - b, exact if both are."""
    return plus(a, -b)


def quotient(a: Value, b: Value) -> Value:
    """a / b, exact if both are. Raises `Undefined` if b is zero."""
    if not b:
        raise Undefined
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else wide(a) / wide(b)


def between(a: Value, b: Value) -> Value:
    """The mean of two values."""
    return quotient(difference(a, -b), Fraction(2))


def within(a: Value, b: Value, tolerance: float) -> bool:
    """Whether two real values differ by no more than this share of the first."""
    return bool(abs(wide(difference(a, b))) <= tolerance * (1 + _EQUAL) * abs(wide(a)))


def rounds_to(exact: Value, decimal: Fraction, step: Fraction) -> bool:
    """Whether a written decimal, whose last digit weighs `step`, is `exact` rounded."""
    if not is_real(exact) or is_infinite(exact):
        return False
    return bool(abs(wide(exact) - wide(decimal)) * 2 <= wide(step) * (1 + _EQUAL))


def wide(value: Value) -> Value:
    """A value to 110 digits."""
    if isinstance(value, Fraction):
        return mp.mpf(value.numerator) / value.denominator
    return value


def is_infinite(value: Value) -> bool:
    """Whether a value is not a finite number."""
    return not isinstance(value, Fraction) and bool(mp.isinf(value))


def checked(value: Value) -> Value:
    """The value, to 110 digits if its exact form is too large for further steps. Raises if it is undefined or out of reach."""
    if isinstance(value, Fraction):
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            return wide(value)
        return value
    if mp.isnan(value):
        raise Undefined
    if isinstance(value, mp.mpc):
        if not value.imag:
            return value.real
        if abs(value.imag) <= ZERO * abs(value.real):
            return value.real
        if abs(value.real) <= ZERO * abs(value.imag):
            value = mp.mpc(0, value.imag)
    if value and not mp.isinf(value) and abs(mp.mag(value)) > MAX_MAGNITUDE:
        raise OutOfReach("a number out of reach")
    return value


def plus(a: Value, b: Value) -> Value:
    """a + b, exact if both are. Raises `OutOfReach` if one term would be lost in the other."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return checked(a + b)
    if not a or not b:
        return a or b
    a, b = wide(a), wide(b)
    total = a + b
    if mp.isinf(total):
        return total
    sizes = abs(a), abs(b)
    if abs(total) <= ZERO * max(sizes):
        return Fraction(0)
    if min(sizes) < _LOST * max(sizes):
        raise OutOfReach("a term that would be lost")
    return checked(total)


def times(a: Value, b: Value) -> Value:
    """a * b, exact if both are."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return checked(a * b)
    if (not a or not b) and not (is_infinite(a) or is_infinite(b)):
        return Fraction(0)
    return checked(wide(a) * wide(b))
