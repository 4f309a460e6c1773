"""Finds the ends of a solution's steps, as token indices.

A step is a line of text. The paper does not define a step; Math-Shepherd uses lines, and so do we. The vocabulary is decoded once, so
completions are never converted to text and back: a step end is an index into the sampled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


class StepMarker:
    """Finds the last token of each step of a completion."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        pieces = tokenizer.batch_decode(
            [[token] for token in range(len(tokenizer))], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self._newline = frozenset(token for token, piece in enumerate(pieces) if "\n" in piece)
        # Special tokens are decoded as empty: EOS after a newline adds no content, so it does not start a step.
        self._blank = frozenset(token for token, piece in enumerate(pieces) if not piece.strip())

    def ends(self, completion: Sequence[int]) -> list[int]:
        """Return the index into `completion` of each step's last token, ascending. The last one is always the final token.

        A step ends with a token that contains a newline, if the next token contains none. Blank lines and special tokens are not steps of
        their own: they belong to the step before them, or to the first step. An empty completion has no steps.
        """
        ends: list[int] = []
        has_content = False
        for index, token in enumerate(completion):
            has_content = has_content or token not in self._blank
            if has_content and token in self._newline and (index + 1 == len(completion) or completion[index + 1] not in self._newline):
                ends.append(index)
                has_content = False
        if not completion:
            return []
        if has_content or not ends:
            ends.append(len(completion) - 1)
        else:
            ends[-1] = len(completion) - 1
        return ends
