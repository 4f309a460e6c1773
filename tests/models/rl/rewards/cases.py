"""Completions to grade, written by hand."""

from __future__ import annotations

from mathquarry.data.problems.problem import Problem
from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.rl.rewards.completions import Completions
from tests.models.rl.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
EOS = TOKENIZER.eos_token_id
PROBLEMS = [Problem("p", "2+2?", "4", "2+2=4", "en", "here"), Problem("q", "2+3?", "5", tolerance=0.1)]


def completions(*texts: str) -> Completions:
    """The same number of completions for each of the two problems, in a row; those that contain the answer are right."""
    completions = [[*encode(TOKENIZER, text), EOS] for text in texts]
    problems = [problem for problem in PROBLEMS for _ in range(len(texts) // 2)]
    marker = StepMarker(TOKENIZER)
    return Completions(
        problems,
        [encode(TOKENIZER, problem.question) for problem in problems],
        completions,
        list(texts),
        [marker.ends(completion) for completion in completions],
        [True] * len(texts),
        [problem.answer in text for text, problem in zip(texts, problems, strict=True)],
    )


FOUR = ("2+2=4\nso 4", "2+2=5\nso 5\n", "5", "2+3=6\nor\n6")
"""With 2, 2, 1 and 3 steps; the first and the third are right."""
