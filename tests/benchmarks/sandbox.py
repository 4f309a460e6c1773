"""A thousand ordinary programs in each sandbox: programs a second, and the time of one call.

    python -m tests.benchmarks.sandbox [local] [container]

One client at a time gives the latency (a fresh dialogue each, warm service), four at a time the throughput.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from mathquarry.data.programs.config import ProgramsConfig
from mathquarry.data.programs.interface import Sandbox
from mathquarry.data.programs.sandbox import make_sandbox

PROGRAMS = 1000
CLIENTS = 4


def program(number: int) -> str:
    """Programs as in solutions: mostly plain arithmetic, some fractions, numpy and sympy."""
    a, b = number % 97 + 2, number % 31 + 3
    kinds = [
        f"eggs = {a} * {b}\nsold = eggs - {a} // 2\nprint(sold * 2)",
        f"total = 0\nfor day in range({a}):\n    total += day * {b}\nprint(total)",
        f"def solution():\n    price = {a} / {b}\n    return round(price * 12, 2)\nprint(solution())",
        f"from fractions import Fraction\nprint(Fraction({a}, {b}) + Fraction(1, {b}))",
        f"from math import comb, gcd\nprint(comb({a}, 3), gcd({a}, {b}))",
        f"import numpy as np\nprint(np.linalg.solve(np.array([[{a}, 1], [1, {b}]]), np.array([1, 2])))",
        f"from sympy import symbols, expand\nx = symbols('x')\nprint(expand((x + {a}) * (x - {b})))",
        f"from sympy import factorint\nprint(factorint({a * b * 1001}))",
    ]
    return kinds[number % len(kinds)]


def seconds(sandbox: Sandbox, number: int) -> float:
    """Time of one call; the program must succeed."""
    begun = time.perf_counter()
    result = sandbox.run(program(number))
    taken = time.perf_counter() - begun
    assert result.error is None, result
    assert result.stdout, result
    return taken


def main(names: list[str]) -> None:
    """Print a row for each sandbox."""
    print("| sandbox | start, s | p50, ms | p90, ms | p99, ms | one client, programs/s | four clients, programs/s | load |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names or ["local", "container"]:
        begun = time.perf_counter()
        with make_sandbox(ProgramsConfig(sandbox=name)) as sandbox:  # type: ignore[arg-type]
            start = time.perf_counter() - begun
            for number in range(20):
                seconds(sandbox, number)
            begun = time.perf_counter()
            taken = sorted(seconds(sandbox, number) for number in range(PROGRAMS))
            alone = PROGRAMS / (time.perf_counter() - begun)
            begun = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda number, sandbox=sandbox: seconds(sandbox, number), range(PROGRAMS)))  # type: ignore[misc]
            together = PROGRAMS / (time.perf_counter() - begun)
        p50, p90, p99 = (1000 * taken[int(PROGRAMS * share)] for share in (0.5, 0.9, 0.99))
        load = os.getloadavg()[0]
        print(f"| {name} | {start:.1f} | {p50:.1f} | {p90:.1f} | {p99:.1f} | {alone:.0f} | {together:.0f} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
