"""Tool-integrated dialogues in GRPO: the part that is graded, the ends of their steps, and the metrics and rows of their calls.

`models/rollout/tools.py` makes dialogues. A dialogue is one list of token ids, with mask 1 for tokens that the model drew and 0 for the
output of programs. The update has a loss and a KL term only on the former; the model just reads the latter.

Our choices, where the paper does not say:
1. the answer is the one that the model itself boxed, not one that a program printed;
2. the output of a program is not a step, and a step ends where output begins;
3. the weight of each completion depends on the tokens that the model drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa

from mathquarry.models.policy.steps import StepMarker
from mathquarry.models.rollout.tools import Call

CALLS = pa.field("calls", pa.list_(pa.struct([("program", pa.string()), ("output", pa.string()), ("error", pa.string())])))
"""Programs that were run, in order, with their output (value or error included) and the sandbox's error, or None."""
MASK = pa.field("mask", pa.list_(pa.int8()))


def drawn_tokens(tokens: Sequence[int], mask: Sequence[int]) -> list[int]:
    """Return the tokens that the model drew."""
    return [token for token, own in zip(tokens, mask, strict=True) if own]


def dialogue_ends(marker: StepMarker, tokens: Sequence[int], mask: Sequence[int]) -> list[int]:
    """Return the indices of each step's last token, ascending: `StepMarker.ends` for each run of tokens that the model drew."""
    ends: list[int] = []
    start = 0
    for own, run in groupby(mask):
        length = len(list(run))
        if own:
            ends += [start + end for end in marker.ends(tokens[start : start + length])]
        start += length
    return ends


def measure_calls(
    masks: Sequence[Sequence[int]], calls: Sequence[Sequence[Call]], finished: Sequence[bool], most: int
) -> dict[str, float | None]:
    """Return metrics of a step's dialogues. `most` is the maximum number of calls per dialogue.

    `tool_calls` and `tool_tokens` are means over completions, `tool_share` is the share with a call, `tool_calls_failed` the share of calls
    that ended with an error (`None` without calls), and `tool_calls_used_up` the share of completions truncated after all allowed calls.
    """
    count, made = len(calls), [call for row in calls for call in row]
    return {
        "tool_calls": len(made) / count,
        "tool_share": sum(map(bool, calls)) / count,
        "tool_calls_failed": sum(bool(call.result.error) for call in made) / len(made) if made else None,
        "tool_calls_used_up": sum(len(row) == most and not ended for row, ended in zip(calls, finished, strict=True)) / count,
        "tool_tokens": sum(mask.count(0) for mask in map(list, masks)) / count,
    }
