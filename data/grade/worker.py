"""The process in which math-verify runs. `Checker` starts it, feeds it and kills it; it trusts nothing it reads.

Protocol: one JSON line `[gold, given, seconds]` on standard input, one byte back: `1` equal, `0` different, `e` could not be read.
A first byte `r` means that the imports are done. It runs as a separate program, so it never needs to fork a process with threads or
import the caller's main module.

Two limits protect the caller: one on memory, and a timer whose default action kills the process, so that no `except` in a library can
swallow it and a worker whose caller died cannot spin forever. The timer counts CPU time, so a verdict does not depend on the machine's
load. As a backup, the caller kills the process by wall-clock time.
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
    os.dup2(2, 1)  # output printed by a library must not look like a reply
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller handles Ctrl-C, and closes standard input
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    same_answer("1", "1+0")  # imports and builds the parser's tables, so that no answer's time limit includes this
    os.write(replies, b"r")
    for line in sys.stdin.buffer:
        gold, given, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            reply = b"1" if same_answer(gold, given) else b"0"
        except Exception:  # a parser fed hostile text may raise anything; the caller reports it as the verdict's reason
            reply = b"e"
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(replies, reply)


def same_answer(gold: str, given: str) -> bool:
    """Whether two LaTeX answers are mathematically equal, by math-verify in strict mode.

    Letters keep their case, which math-verify's own reader would drop. math-verify rounds floats to six decimals, which would make all tiny
    numbers equal; this function rejects such pairs. Its reader of plain expressions is not used, since that ends in Python's `eval`.
    """
    from math_verify import verify

    parsed = [_read(text) for text in (gold, given)]
    equal = verify([parsed[0]], [parsed[1]], timeout_seconds=None, raise_on_error=True)
    return equal and not _numbers_far_apart(*parsed)


def _read(text: str) -> Any:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    # math-verify's removal of trailing units is off: it would read the variable `t` as tonnes.
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
