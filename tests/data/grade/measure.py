"""How many respelled gold answers the checker grades correctly: `python -m tests.data.grade.measure`, two to three minutes on one core.

Golds are the different answers of GSM8K, MATH, CMATH and Math23K in the folder of shared data; a share of them with `--share 0.1`.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mathquarry.data.grade.checker import Checker
from mathquarry.data.grade.config import GradeConfig
from mathquarry.data.problems.registry import DATASETS
from tests.data.grade import harmful, harmless

FILES = {
    "gsm8k": ("problems/gsm8k-train.jsonl.gz", "problems/gsm8k-test.jsonl.gz"),
    "math": ("problems/math-train.jsonl.gz", "problems/math-test.jsonl.gz"),
    "cmath": ("benchmarks/cmath-test.jsonl.gz",),
    "math23k": ("problems/math23k-test.json.gz",),
}
HARMLESS, HARMFUL = 12, 8
"""Fewest spellings of a gold answer, except for a few of odd kinds."""


@dataclass(frozen=True)
class Spelling:
    """One respelled gold answer, the rule that made it, and whether it is still right."""

    gold: str
    rule: str
    text: str
    right: bool


def gold_answers(folder: Path, share: float = 1.0) -> list[str]:
    """The different gold answers of the problem sets, or a fixed share of them."""
    found = {problem.answer for name, files in FILES.items() for file in files for problem in DATASETS[name].load(str(folder / file))}
    golds = sorted(found - {""})
    random.Random(0).shuffle(golds)
    return golds[: round(len(golds) * share)]


def respelled(golds: Iterable[str]) -> list[Spelling]:
    """All spellings of these answers, harmless ones first for each."""
    return [
        Spelling(gold, name, text, right)
        for gold in golds
        for rules, right in ((harmless.spellings, True), (harmful.spellings, False))
        for name, text in rules(gold).items()
    ]


def misjudged(spellings: Sequence[Spelling]) -> list[Spelling]:
    """The spellings that the checker grades wrongly."""
    with Checker(GradeConfig()) as checker:
        verdicts = checker.grade_answers([(spelling.text, spelling.gold) for spelling in spellings])
    return [spelling for spelling, verdict in zip(spellings, verdicts, strict=True) if verdict.correct != spelling.right]


def main() -> None:
    """Print the numbers, and with `--show` every pair that is graded wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.data.grade.measure", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the gold answers (default: all)")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MATHQUARRY_SHARED") or "../shared/data"))
    parser.add_argument("--show", action="store_true", help="print the pairs that are graded wrongly")
    options = parser.parse_args()
    golds = gold_answers(options.data, options.share)
    spellings = respelled(golds)
    start = time.process_time()
    errors = misjudged(spellings)
    seconds = time.process_time() - start
    for right, what in ((True, "harmless, accepted"), (False, "harmful, accepted")):
        total = sum(spelling.right == right for spelling in spellings)
        wrong = sum(spelling.right == right for spelling in errors)
        accepted = total - wrong if right else wrong
        print(f"{what}: {accepted:,} of {total:,} ({accepted / total:.3%}), {total / len(golds):.1f} for each of {len(golds):,} answers")
    print(f"{len(spellings) / seconds:,.0f} pairs per second of processor time")
    if options.show:
        for spelling in errors:
            print(f"{'rejected' if spelling.right else 'accepted'}: {spelling.gold!r} as {spelling.text!r} ({spelling.rule})")


if __name__ == "__main__":
    main()
