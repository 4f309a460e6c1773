"""Rewards of my own. A recipe names them as `my_rewards:length_penalty` and `my_rewards:right_sums`."""

import re
from typing import Any

SUM = re.compile(r"(\d+) *([-+*]) *(\d+) *= *(-?\d+)")


def length_penalty(completion_ids: list[list[int]], longest: int = 100, **columns: Any) -> list[float]:
    """One number a completion: 0 up to `longest` tokens, and from there down to -1 at twice as many."""
    return [-min(1.0, max(0, len(tokens) - longest) / longest) for tokens in completion_ids]


def right_sums(completions: list[str], steps: list[list[str]], **columns: Any) -> list[list[float]]:
    """One number per step: 1 if the sums in it are right, -1 if one is wrong, 0 if it has none."""
    return [[_verdict(step) for step in lines] for lines in steps]


def _verdict(step: str) -> float:
    worked = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    right = [worked[sign](int(a), int(b)) == int(result) for a, sign, b, result in SUM.findall(step)]
    return 0.0 if not right else 1.0 if all(right) else -1.0
