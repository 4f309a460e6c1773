"""Held-out texts as rows on which a model is evaluated: bits per byte, which does not depend on the tokenizer.

The first token of a document is not predicted unless the tokenizer has a BOS. Longer documents are split at the context length, and the
first token after a split is not predicted either. Both are the same for all models with the same tokenizer and context.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import read_problems
from mathquarry.data.programs.calculator import strip_marks
from mathquarry.data.texts.documents import read_documents
from mathquarry.models.policy.tokenizer import encode_all, start_tokens
from mathquarry.models.train.config import HeldOutText
from mathquarry.models.train.measurement import HeldOut
from mathquarry.models.train.packing import IGNORED, Labelled, pack


def held_out_rows(text: HeldOutText, test_problems: Path, tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> HeldOut:
    """Return the rows of a text. Raises `MathQuarryError` if it cannot be read or is empty."""
    if text.path is None:
        asked, told = _problems(test_problems, text.documents)
    else:
        told = [document for document in islice(read_documents(text.path, 0), text.documents) if document]
        asked = [""] * len(told)
    if not told:
        raise MathQuarryError(f"held_out {text.name!r}: {text.path or test_problems} has no text.")
    examples: list[Labelled] = []
    for question, answer in zip(encode_all(tokenizer, asked), encode_all(tokenizer, told), strict=True):
        ids = np.asarray([*start_tokens(tokenizer), *question, *answer])
        labels = np.where(np.arange(len(ids)) < len(ids) - len(answer), IGNORED, ids)
        for start in range(0, len(ids), context_tokens):
            part = labels[start : start + context_tokens].copy()
            part[0] = IGNORED
            examples.append((ids[start : start + context_tokens], part))
    return HeldOut(text.name, pack(examples, context_tokens, seed=0), sum(len(answer.encode()) for answer in told))


def _problems(path: Path, count: int) -> tuple[Sequence[str], Sequence[str]]:
    """Return questions, and their solutions."""
    problems = [problem for problem in read_problems(path) if problem.solution][:count]
    return [f"{problem.question}\n" for problem in problems], [strip_marks(problem.solution) for problem in problems]
