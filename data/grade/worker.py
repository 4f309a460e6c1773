"""The process in which math-verify runs. `Checker` starts it, feeds it and kills it; it trusts nothing it reads.

Protocol: one JSON line `[gold, given, seconds]` on standard input, one byte back: `1` equal, `0` different, `e` could not be read.
A first byte `r` says that the imports are done. It runs as a program of its own, so that neither a fork of a process with
threads nor an import of the caller's main module is ever needed.

What protects the caller: a bound on memory, and a timer whose default action is death, so that no `except` in a library can swallow it
and a worker whose caller died cannot spin for ever. It counts processor time, so a verdict does not depend on what else the machine is
doing; behind it stands the caller's kill by the clock.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

MEMORY_BYTES = 2 * 1024**3
DIGITS = 50
RELATIVE_TOLERANCE = 1e-12


def main() -> None:
    """Answer requests until standard input closes."""
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's affair; it closes standard input
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    judge("1", "1+0")  # imports and builds the parser's tables, which no answer's time limit should pay for
    os.write(replies, b"r")
    for line in sys.stdin.buffer:
        gold, given, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            reply = b"1" if judge(gold, given) else b"0"
        except Exception:  # a parser fed hostile text may raise anything; the caller reports it as the verdict's reason
            reply = b"e"
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(replies, reply)


def judge(gold: str, given: str) -> bool:
    """Whether two LaTeX answers are mathematically equal, by math-verify in strict mode.

    Letters keep their case, which math-verify's own reader would drop. It rounds floats to six decimals, which would make every two tiny
    numbers equal; such a pair is vetoed here. Its reader of plain expressions is not used at all: that one ends in Python's `eval`.
    """
    from math_verify import verify

    parsed = [_read(text) for text in (gold, given)]
    equal = verify([parsed[0]], [parsed[1]], timeout_seconds=None, raise_on_error=True)
    return equal and not _numbers_far_apart(*parsed)


def _read(text: str) -> Any:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    # Its removal of trailing units is switched off: it would read the variable `t` as tonnes.
    normalization = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False)
    inner = text.replace("\\$", "").replace("$", "").replace("%", "\\%")
    return latex2sympy(inner, normalization_config=normalization, conversion_config=ConversionConfig(lowercase_symbols=False))


def _numbers_far_apart(a: Any, b: Any) -> bool:
    if not (getattr(a, "is_number", False) and getattr(b, "is_number", False)):
        return False
    difference = abs((a - b).evalf(DIGITS))
    return bool(difference > RELATIVE_TOLERANCE * max(abs(a.evalf(DIGITS)), abs(b.evalf(DIGITS))))


if __name__ == "__main__":
    main()
