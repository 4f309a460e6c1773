"""Grade answers with one system: `grade.py NAME pairs.jsonl`.

Pairs are records of `gold`, `text` and `right`. Besides its rate a side says how many harmless spellings it accepts, how many harmful ones,
and which pair took longest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from clock import measured, read_lines

Grader = Callable[[str, str], bool]


def mathquarry() -> Grader:
    """The checker as rewards use it, from the complete output to the verdict."""
    from mathquarry.data.grade.checker import Checker
    from mathquarry.data.grade.config import GradeConfig

    checker = Checker(GradeConfig())
    return lambda gold, text: checker.grade(f"\\boxed{{{text} }}", gold).correct


def math_verify() -> Grader:
    """As in its own documentation: LaTeX and expressions, the gold answer between dollar signs, the other in a box, 5 s for each step."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)

    def grade(gold: str, text: str) -> bool:
        inner = gold.strip("$")
        return verify(parse(f"${inner}$"), parse(f"\\boxed{{{text} }}"))

    return grade


def main(name: str, path: str) -> None:
    """Grade all pairs, one by one."""
    pairs = read_lines(path)
    grade = {"mathquarry": mathquarry, "math-verify": math_verify}[name]()
    grade("x+1", "1+x")
    result = {"items": len(pairs), "harmless": 0, "harmful": 0, "longest": 0.0, "longest_text": ""}
    with measured(result):
        for pair in pairs:
            start = time.perf_counter()
            if grade(pair["gold"], pair["text"]):
                result["harmless" if pair["right"] else "harmful"] += 1
            seconds = time.perf_counter() - start
            if seconds > result["longest"]:
                result |= {"longest": seconds, "longest_text": pair["text"]}


if __name__ == "__main__":
    main(*sys.argv[1:])
