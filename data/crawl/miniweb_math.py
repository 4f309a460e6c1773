"""Content of the mini-web's mathematical pages: worked word problems and explanations of arithmetic.

The word problems are training problems of the `problems` artifact and fresh ones of the same kind, so that a model
pretrained on the mined corpus learns the language of the questions it will be asked. Problems that share a ten-word
sequence with a held-out question are left out; only planted pages quote those.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mathquarry.data.crawl.miniweb_document import Block, Document, Heading, Inline, Paragraph, Tex
from mathquarry.data.problems.generated import LEAST_LARGEST, SOURCE, draw_problem
from mathquarry.data.problems.problem import Problem

FORMULA_VOICES = ("forum", "lesson", "steps")
"""Ways to write a solution with formulas."""
PLAIN_VOICES = ("plain-signs", "plain-words")
"""Ways to write a solution without formulas."""

_TRAIN_SHARE = 0.4
"""Share of a page's problems that are training problems; the rest are fresh."""
_LENGTHS = (750, 1650)
"""Range of a page's target length, in characters."""
_EXPLANATION_SHARE = 0.25
"""Chance of an explanation after a problem."""
_QUOTE = 10
"""Words in a row that count as quoting a held-out problem, as in the paper's decontamination."""

_MARK = re.compile(r"<<[^<>]*>>")
_STEP = re.compile(r"\s*(\d+)\s*([-+])\s*(\d+)\s*=\s*(\d+)\s*")
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_SIGN_WORDS = {"+": ("add", "plus", "We put them together"), "-": ("subtract", "minus", "We take some away")}

_OPENINGS = (
    "Here are some word problems with {item}.",
    "Read each question twice, then write the numbers down.",
    "These questions are about {item} and other small things.",
    "Try to find each answer before you read on.",
    "A friend sent me these questions about {item}.",
    "All of these can be done with paper and a pencil.",
    "We did these in class on the day with {item}.",
    "How many {item} are there in the end? Count with us.",
)
_CLOSINGS = (
    "Now make up a question about {item} yourself.",
    "Check every answer by going back from the end.",
    "Next time we use larger numbers.",
    "If an answer looks wrong, write to us.",
    "Did you get {right} of them right? Well done.",
    "More questions about {item} come next week.",
)
_TITLES = (
    "Word problems with {item}, set {number}",
    "How many {item}? Part {number}",
    "Adding and taking away {item}: sheet {number}",
    "{number} more or {number} fewer {item}",
    "Help with homework about {item} ({number})",
    "Counting {item}, lesson {number}",
)
_SUBJECTS = ("apples", "books", "pens", "cards", "coins", "shells", "stones", "stamps", "balls", "cups", "eggs", "nuts", "plums", "keys")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class HeldOut:
    """Recognizes text that shares ten words in a row with a held-out problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._grams: set[tuple[str, ...]] = set()
        for problem in problems:
            for text in (problem.question, _MARK.sub("", problem.solution)):
                self._grams.update(_grams(text))

    def quoted_in(self, text: str) -> bool:
        """Whether `text` quotes a held-out problem."""
        return any(gram in self._grams for gram in _grams(text))


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = _words(text)
    return (tuple(words[start : start + _QUOTE]) for start in range(len(words) - _QUOTE + 1))


@dataclass(frozen=True)
class Exercise:
    """A question, the lines that solve it (without calculator marks) and the answer."""

    question: str
    lines: tuple[str, ...]
    answer: str

    @classmethod
    def of(cls, question: str, solution: str, answer: str) -> Exercise:
        """Make one from a problem's fields."""
        return cls(question, tuple(line.strip() for line in _MARK.sub("", solution).splitlines() if line.strip()), answer)


@dataclass
class ExerciseBook:
    """Deals exercises: fresh ones, and training problems, none twice until all were dealt. None quotes a held-out problem."""

    train: list[Problem]
    held_out: HeldOut
    rng: random.Random
    _deck: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.train = [problem for problem in self.train if problem.solution and not self.held_out.quoted_in(problem.question)]
        numbers = [int(found) for problem in self.train if problem.source == SOURCE for found in re.findall(r"\d+", problem.question)]
        self._largest = max(numbers, default=3 * LEAST_LARGEST)

    def deal(self) -> Exercise:
        """The next exercise."""
        if self.train and self.rng.random() < _TRAIN_SHARE:
            if not self._deck:
                self._deck = self.rng.sample(self.train, len(self.train))
            problem = self._deck.pop()
            return Exercise.of(problem.question, problem.solution, problem.answer)
        while True:
            drawn = draw_problem(self.rng, self._largest, self.rng.choice((1, 2)))
            if not self.held_out.quoted_in(drawn.question):
                return Exercise.of(drawn.question, drawn.solution, drawn.answer)


def math_document(book: ExerciseBook, voice: str, number: int, planted: Problem | None = None) -> Document:
    """A page of worked problems in one voice; it quotes `planted` in full, with its solution and answer."""
    rng = book.rng
    item = rng.choice(_SUBJECTS)
    words = {"item": item, "number": number, "right": rng.randint(3, 9)}
    title = rng.choice(_TITLES).format(**words)
    blocks: list[Block] = [Paragraph.of(" ".join(rng.sample(_OPENINGS, 2)).format(**words))]
    aim = rng.randint(*_LENGTHS)
    exercises: list[list[Block]] = []
    length = 0
    while length < aim:
        exercises.append(_exercise(book.deal(), voice, len(exercises) + 1, rng))
        if rng.random() < _EXPLANATION_SHARE:
            exercises[-1].append(_explanation(voice, rng))
        length += Document("", tuple(exercises[-1])).characters
    if planted is not None:
        place = rng.randrange(len(exercises))
        quoted = Exercise.of(planted.question, planted.solution, planted.answer)
        exercises[place] = _exercise(quoted, voice, place + 1, rng)
    blocks += [block for group in exercises for block in group]
    blocks.append(Paragraph.of(rng.choice(_CLOSINGS).format(**words)))
    return Document(title, tuple(blocks))


def _exercise(exercise: Exercise, voice: str, number: int, rng: random.Random) -> list[Block]:
    steps = [_STEP.fullmatch(line) for line in exercise.lines]
    answer = exercise.answer
    if voice == "forum":
        lines: list[tuple[Inline, ...]] = [(exercise.question,), ("Answer:",), *(_line(line) for line in exercise.lines)]
        return [Paragraph((*lines, (Tex(rf"\boxed{{{answer}}}"),)))]
    if voice == "lesson":
        parts: list[Inline] = ["Solution. "]
        for place, (line, step) in enumerate(zip(exercise.lines, steps, strict=True)):
            lead = ("We" if len(steps) == 1 else "First we") if place == 0 else "Then we"
            parts += [f"{lead} {_SIGN_WORDS[step[2]][0]}: " if step else "", *_line(line), ". "]
        return [Heading(f"Example {number}"), Paragraph.of(exercise.question), Paragraph.of(*parts, "The answer is ", Tex(answer), ".")]
    if voice == "steps":
        rows = [(f"Step {place}: ", *_line(line)) for place, line in enumerate(exercise.lines, 1)]
        return [Paragraph((("Question: " + exercise.question,), *rows, ("Result: ", Tex(rf"\boxed{{{answer}}}"))))]
    if voice == "plain-signs":
        return [Paragraph(((f"{number}. {exercise.question}",), *((line,) for line in exercise.lines), (f"The answer is {answer}.",)))]
    spoken = " ".join(_spoken(line, step, rng) for line, step in zip(exercise.lines, steps, strict=True))
    return [Paragraph.of(exercise.question), Paragraph.of(f"{spoken} So the answer is {answer}.")]


def _line(line: str) -> tuple[Inline, ...]:
    return (Tex(line),) if _STEP.fullmatch(line) else (line,)


def _spoken(line: str, step: re.Match[str] | None, rng: random.Random) -> str:
    if step is None:
        return line if line.endswith((".", "!", "?")) else f"{line}."
    _, word, lead = _SIGN_WORDS[step[2]]
    sentence = f"{step[1]} {word} {step[3]} is {step[4]}."
    return rng.choice((sentence, sentence, f"{lead}: {sentence}"))


def _explanation(voice: str, rng: random.Random) -> Block:
    """An explanation of a sum: making ten, counting back, checking, swapping."""
    a, b = sorted((rng.randint(2, 12), rng.randint(2, 12)), reverse=True)
    total = a + b
    kind = rng.randrange(4)
    if kind == 0 and a < 10 < total:
        rest = b - (10 - a)
        parts: list[Inline] = [f"To add {a} and {b}, make ten first: ", Tex(f"{a}+{10 - a}=10"), ", then ", Tex(f"10+{rest}={total}"), "."]
    elif kind == 1:
        parts = [f"Start at {total} and take {b} steps back on the number line: ", Tex(f"{total}-{b}={a}"), "."]
    elif kind == 2:
        parts = ["To check ", Tex(f"{total}-{a}={b}"), ", add again: ", Tex(f"{b}+{a}={total}"), "."]
    else:
        parts = ["The order does not matter: ", Tex(f"{a}+{b}={total}"), " and ", Tex(f"{b}+{a}={total}", voice == "lesson"), "."]
    if voice in PLAIN_VOICES:
        return Paragraph.of("".join(part if isinstance(part, str) else part.source for part in parts))
    return Paragraph.of(*parts)
