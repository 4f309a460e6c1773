"""Texts that are never trained on, as rows on which a model is measured: bits for each byte, whatever its tokenizer.

The first token of a document has no prediction unless the tokenizer has a BOS; a longer document is cut where the context ends, and the
first token after a cut has none either. Both are the same for all models with one tokenizer and context.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from data.documents import read_documents
from data.errors import MathQuarryError
from data.problems.problem import read_problems
from data.programs.calculator import strip_marks
from models.config import HeldOutText
from models.measurement import HeldOut
from models.packing import IGNORED, Labelled, pack
from models.tokenizer import encode_all, start_tokens


def held_out_rows(text: HeldOutText, test_problems: Path, tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> HeldOut:
    """The rows of a text. Raises `MathQuarryError` when it cannot be read or is empty."""
    if text.path is None:
        asked, told = _problems(test_problems, text.documents)
    else:
        told = [document for document in islice(read_documents(text.path, 0), text.documents) if document]
        asked = [""] * len(told)
    if not told:
        raise MathQuarryError(f"held_out {text.name!r}: {text.path or test_problems} holds no text.")
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
    """Questions, and the solutions that follow them."""
    problems = [problem for problem in read_problems(path) if problem.solution][:count]
    return [f"{problem.question}\n" for problem in problems], [strip_marks(problem.solution) for problem in problems]
