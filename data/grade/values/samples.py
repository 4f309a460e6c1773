"""Points at which expressions with letters are compared."""

from __future__ import annotations

import hashlib
from fractions import Fraction


def sample(name: str, trial: int, kind: str) -> Fraction:
    """A number for a symbol, always the same: `positive` in 0.3 to 3, `signed` in -3 to 3, `integer` in 1 to 9."""
    draw = int.from_bytes(hashlib.blake2b(f"{kind} {trial} {name}".encode(), digest_size=8).digest(), "big")
    if kind == "integer":
        return Fraction(1 + draw % 9)
    value = Fraction(300 + draw % 2701, 1009)
    return -value if kind == "signed" and draw >> 40 & 1 else value
