"""Generates arithmetic word problems from a seed: one or two additions or subtractions, with worked solutions.

These are our own, for the recipe `tiny`. They use fewer than 150 different words, so that a model with a million parameters can learn them.
Any ten consecutive words contain a number, or varying names and items. So two questions from one template almost never share ten words,
which matters because pages that share ten words with a test question are removed from the corpus.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.config import GeneratedProblems
from mathquarry.data.problems.problem import Problem

SOURCE = "generated"
SMALLEST = 2
"""Smallest number in a question: `1 apples` would be wrong English."""

NAMES = [
    "Tom",
    "Ana",
    "Ben",
    "Mia",
    "Sam",
    "Eva",
    "Max",
    "Lea",
    "Tim",
    "Zoe",
    "Leo",
    "Amy",
    "Dan",
    "Ivy",
    "Jon",
    "Kim",
    "Ned",
    "Pia",
    "Ray",
    "Sue",
    "Ted",
    "Una",
    "Val",
    "Wes",
]
ITEMS = [
    "apples",
    "books",
    "pens",
    "cards",
    "coins",
    "shells",
    "stones",
    "stamps",
    "balls",
    "cups",
    "eggs",
    "nuts",
    "plums",
    "keys",
    "pears",
    "rings",
    "dolls",
    "boats",
    "kites",
    "beads",
]
KINDS = ["red", "blue", "big", "small", "new", "old"]


@dataclass(frozen=True)
class Template:
    """A question with slots, and the steps that answer it.

    Slots: `{n}`, `{m}`, `{k}` different names, `{i}` an item, `{q}` its kind, `{a}`, `{b}`, `{c}` numbers; `[x|y]` is a choice of words.
    A step is `a+b` or `x-c`: three characters, where `x` is the result of the previous step.
    """

    text: str
    steps: tuple[str, ...]


ONE_STEP = (
    Template("{n} has {a} {q} {i} and [buys|finds|gets] {b} more. How many {q} {i} does {n} have now?", ("a+b",)),
    Template("{n} had {a} {q} {i} and [sold|lost|used] {b}. How many {q} {i} does {n} still have?", ("a-b",)),
    Template("There are {a} {q} {i} on the [table|shelf|floor]. {n} adds {b}. How many {q} {i} are there?", ("a+b",)),
    Template("A [box|bag|jar] holds {a} {q} {i}. {n} takes {b}. How many are left?", ("a-b",)),
    Template("{n} has {a} {q} {i} and {m} has {b}. How many is that together?", ("a+b",)),
    Template("{n} has {a} {q} {i} and {m} has {b}. How many more {q} {i} does {n} have?", ("a-b",)),
    Template("{n} gave {b} {q} {i} to {m} and kept {a}. How many {q} {i} did {n} have before?", ("a+b",)),
    Template("{n} wants {a} {q} {i} and has {b}. How many more does {n} need?", ("a-b",)),
    Template("{m} has {a} {q} {i}. {n} has {b} more than {m}. How many {q} {i} does {n} have?", ("a+b",)),
    Template("{m} has {a} {q} {i} and {n} has {b} fewer. How many {q} {i} does {n} have?", ("a-b",)),
    Template("{n} had {b} {q} {i} and now has {a}. How many did {n} [find|get|buy]?", ("a-b",)),
)
TWO_STEP = (
    Template("{n} has {a} {q} {i}, gets {b} and then [sells|loses|uses] {c}. How many {q} {i} does {n} have now?", ("a+b", "x-c")),
    Template("{n} had {a} {q} {i}, lost {b} and then [found|bought] {c}. How many {q} {i} does {n} have now?", ("a-b", "x+c")),
    Template("{n} has {a} {q} {i} and gives {b} to {m} and {c} to {k}. How many {q} {i} does {n} keep?", ("a-b", "x-c")),
    Template("{n} found {a} {q} {i}, {m} found {b} and {k} found {c}. How many {q} {i} is that?", ("a+b", "x+c")),
    Template("{n} has {a} {q} {i} and {m} has {b} more. How many {q} {i} do {n} and {m} have together?", ("a+b", "x+a")),
    Template("{n} has {a} {q} {i} and {m} has {b} fewer. How many {q} {i} do {n} and {m} have together?", ("a-b", "x+a")),
    Template("{n} has {a} {q} {i} at home and {b} at school. {m} takes {c}. How many {q} {i} does {n} have left?", ("a+b", "x-c")),
    Template("There are {a} {q} {i} in a [box|bag|jar]. {n} takes {b} and {m} adds {c}. How many {q} {i} are in it?", ("a-b", "x+c")),
    Template("{n} wants {a} {q} {i}. {m} gives {b} and {k} gives {c}. How many more {i} does {n} need?", ("a-b", "x-c")),
    Template("{n} had some {q} {i}, gave {a} to {m}, sold {b} and kept {c}. How many {q} {i} did {n} have before?", ("a+b", "x+c")),
    Template("{n} finds {a} {q} {i} and {m} finds {b}. {n} loses {c}. How many do they have now?", ("a-c", "x+b")),
)
LEAST_LARGEST = 2 * SMALLEST
"""With smaller numbers, no question could subtract twice."""
TRIES = 2000
"""Consecutive repeats after which the templates count as exhausted."""


@dataclass(frozen=True)
class WordProblem:
    """A generated question with its answer and solution, one step per line: `5+7=<<5+7=12>>12`."""

    question: str
    answer: str
    solution: str


def draw_problem(rng: random.Random, largest: int, steps: int) -> WordProblem:
    """Draw one word problem with one or two `steps` and numbers up to `largest`.

    Intermediate results and the answer can be larger than `largest`, but never negative. Raises `MathQuarryError` if `largest` is below 4.
    """
    if largest < LEAST_LARGEST:
        raise MathQuarryError(f"problems.source.largest is {largest}; generated word problems need at least {LEAST_LARGEST}.")
    template = rng.choice(ONE_STEP if steps == 1 else TWO_STEP)
    n, m, k = rng.sample(NAMES, 3)
    words = {"n": n, "m": m, "k": k, "i": rng.choice(ITEMS), "q": rng.choice(KINDS)}
    text = re.sub(r"\[([^]]*)\]", lambda choice: rng.choice(choice[1].split("|")), template.text)
    while True:
        numbers = {slot: rng.randint(SMALLEST, largest) for slot in "abc"}
        lines, results = _work(template.steps, numbers)
        if min(results) >= 0:
            return WordProblem(text.format(**words, **numbers), str(results[-1]), "\n".join(lines))


def _work(steps: tuple[str, ...], numbers: dict[str, int]) -> tuple[list[str], list[int]]:
    """Carry out the steps. Returns the lines of the solution and the result of each."""
    lines: list[str] = []
    results: list[int] = []
    for step in steps:
        left, sign, right = tuple(step)
        first, second = (results[-1] if slot == "x" else numbers[slot] for slot in (left, right))
        result = first + second if sign == "+" else first - second
        lines.append(f"{first}{sign}{second}=<<{first}{sign}{second}={result}>>{result}")
        results.append(result)
    return lines, results


def generate_problems(config: GeneratedProblems, seed: int) -> tuple[list[Problem], list[Problem]]:
    """Generate training and test problems. All questions are different.

    The test problems depend only on `seed`, `test`, `largest` and `two_step_share`, so runs with more or fewer training problems can be
    compared. Raises `MathQuarryError` if `largest` is too small for the number of problems.
    """
    seen: set[str] = set()
    test = _split("test", config.test, config, seed, seen)
    train = _split("train", config.train, config, seed, seen)
    return train, test


def _split(name: str, count: int, config: GeneratedProblems, seed: int, seen: set[str]) -> list[Problem]:
    rng = random.Random(f"word problems/{name}/{seed}")
    two_step = round(config.two_step_share * count)
    steps = [2] * two_step + [1] * (count - two_step)
    rng.shuffle(steps)
    problems: list[Problem] = []
    for number in steps:
        for _ in range(TRIES):
            drawn = draw_problem(rng, config.largest, number)
            if drawn.question not in seen:
                break
        else:
            raise MathQuarryError(
                f"only {len(seen)} different problems were found for problems.source.train = {config.train} and test = {config.test} "
                f"with largest = {config.largest}: request fewer, or raise `largest`."
            )
        seen.add(drawn.question)
        problems.append(Problem(f"{SOURCE}-{name}-{len(problems)}", drawn.question, drawn.answer, drawn.solution, "en", SOURCE))
    return problems
