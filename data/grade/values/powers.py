"""Powers, roots, logarithms, factorials: exact if possible, and not started if the result would be out of reach."""

from __future__ import annotations

import math
from fractions import Fraction

from mathquarry.data.grade.values.arithmetic import (
    MAX_BITS,
    MAX_MAGNITUDE,
    ZERO,
    OutOfReach,
    Undefined,
    Value,
    checked,
    is_infinite,
    is_real,
    less,
    mp,
    wide,
)


def power(base: Value, exponent: Value) -> Value:
    """A power: exact if it is rational and not too large. Raises `Undefined` and `OutOfReach`."""
    if is_infinite(base) or is_infinite(exponent):
        raise Undefined
    if not exponent:
        return Fraction(1)
    if not base:
        if is_real(exponent) and less(Fraction(0), exponent):
            return Fraction(0)
        raise Undefined
    if isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            whole = int(exponent)
            if isinstance(base, Fraction):
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if abs(base) == 1 or bits * abs(whole) <= MAX_BITS:
                    return base**whole if abs(base) != 1 else base ** (whole % 2)
            return raised(base, exponent)
        if exponent.denominator <= 1000:
            return power(root(base, exponent.denominator), Fraction(exponent.numerator))
        if is_real(base) and less(base, Fraction(0)) and exponent.denominator % 2:
            value = raised(-base, exponent)
            return -value if exponent.numerator % 2 else value
    return raised(base, exponent)


def raised(base: Value, exponent: Value) -> Value:
    """A power by logarithms. The size of the result is checked before it is computed."""
    value, exponent_value = wide(base), wide(exponent)
    magnitude = abs(mp.mag(exponent_value)) if exponent_value else 0
    if magnitude > 64:
        raise OutOfReach("an exponent out of reach")
    if abs(mp.log(abs(value))) * abs(exponent_value) > MAX_MAGNITUDE:
        raise OutOfReach("a power out of reach")
    return checked(value ** (int(exponent) if isinstance(exponent, Fraction) and exponent.denominator == 1 else exponent_value))


def root(value: Value, index: int) -> Value:
    """The real root if there is one (also of negative numbers, for an odd index), else the principal one."""
    if not value:
        return Fraction(0)
    if is_infinite(value):
        return value
    if is_real(value) and less(value, Fraction(0)):
        if index % 2:
            return -root(-value, index)
        if index == 2:
            return checked(mp.mpc(0, 1) * wide(root(-value, 2)))
    if isinstance(value, Fraction) and value > 0:
        over, under = _exact_root(value.numerator, index), _exact_root(value.denominator, index)
        if over is not None and under is not None:
            return Fraction(over, under)
    number = wide(value)
    return checked(mp.sqrt(number) if index == 2 else mp.root(number, index) if is_real(number) else number ** (mp.mpf(1) / index))


def _exact_root(value: int, index: int) -> int | None:
    if index == 2:
        found = math.isqrt(value)
    elif value.bit_length() > 1000:
        return None
    else:
        found = int(mp.nint(mp.root(mp.mpf(value), index)))
    return found if found**index == value else None


def factorial(value: Value) -> Value:
    """n!, by the gamma function if n is not an integer."""
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise Undefined
        if value <= 5000:
            return checked(Fraction(math.factorial(int(value))))
    if not is_real(value) or abs(wide(value)) > 10**6:
        raise OutOfReach("a factorial out of reach")
    return checked(mp.gamma(wide(value) + 1))


def binomial(n: Value, k: Value) -> Value:
    """The binomial coefficient."""
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1 and n >= 0:
        if k < 0 or k > n:
            return Fraction(0)
        smaller = min(k, n - k)
        if smaller * max(1, int(n).bit_length()) <= MAX_BITS:
            return Fraction(math.comb(int(n), int(smaller)))
        raise OutOfReach("a binomial coefficient out of reach")
    if max(abs(wide(n)), abs(wide(k))) > 10**6:
        raise OutOfReach("a binomial coefficient out of reach")
    return checked(mp.binomial(wide(n), wide(k)))


def log(value: Value, base: Value | None = None) -> Value:
    """A logarithm, to base e by default; exact if it is an integer multiple of 1/12."""
    if not value or is_infinite(value):
        raise Undefined
    top = snapped(mp.log(wide(value)))
    if base is None:
        return top
    under = log(base)
    if not under:
        raise Undefined
    if isinstance(value, Fraction) and isinstance(base, Fraction):
        ratio = mp.log(wide(value)) / mp.log(wide(base))
        near = mp.nint(ratio * 12) / 12 if is_real(ratio) else None
        if near is not None and abs(near - ratio) < ZERO:
            return Fraction(int(mp.nint(ratio * 12)), 12)
    return checked(wide(top) / wide(under))


def snapped(value: Value) -> Value:
    """Zero if only rounding error is left of a value of magnitude one, else the value."""
    value = checked(value)
    if is_real(value) and abs(wide(value)) < ZERO:
        return Fraction(0)
    return value
