"""Where the steps of a solution end, in tokens.

A step is a line of text (the paper does not say what a step is; one line is Math-Shepherd's reading and ours). The vocabulary is decoded
once, so outputs are never turned into text and back: a step end is an index into the sampled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


class StepMarker:
    """Finds the last token of each step of an output."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        pieces = tokenizer.batch_decode(
            [[token] for token in range(len(tokenizer))], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self._newline = frozenset(token for token, piece in enumerate(pieces) if "\n" in piece)
        # Special tokens decode to nothing here: EOS after a newline adds no content, so it starts no step.
        self._blank = frozenset(token for token, piece in enumerate(pieces) if not piece.strip())

    def ends(self, output: Sequence[int]) -> list[int]:
        """Indices into `output` of each step's last token, ascending; the last one is always the final token.

        A step ends with a token that contains a newline and whose successor contains none. Blank lines and special tokens make no step of
        their own: before the first step they belong to it, after the last one they move its end. An empty output has no steps.
        """
        ends: list[int] = []
        has_content = False
        for index, token in enumerate(output):
            has_content = has_content or token not in self._blank
            if has_content and token in self._newline and (index + 1 == len(output) or output[index + 1] not in self._newline):
                ends.append(index)
                has_content = False
        if not output:
            return []
        if has_content or not ends:
            ends.append(len(output) - 1)
        else:
            ends[-1] = len(output) - 1
        return ends
