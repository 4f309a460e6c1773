"""Lays out prompts and completions in rows for a forward pass. If possible, each prompt is computed once for all its completions.

A row holds families: a prompt followed by some of its completions. Each completion attends to its prompt and itself, by spans or under a
mask. Its position ids continue from the prompt's, so every token sees what it would see if its sequence were alone.

Shape suffixes: B rows, T tokens, N completion tokens of all sequences.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from mathquarry.models.policy.attention import Spans, attends_by_spans, is_windowed, span_inputs

Arrangement = Literal["spans", "shared", "packed", "padded"]
"""`spans`: families, with attention by spans. `shared`: families, under a mask. `packed`: whole sequences one after another in a single
row, separated by position ids alone, as FlashAttention expects. `padded`: one sequence per row."""

ROW_HIDDEN = 2
"""Maximum length of a row of families under a mask, as a multiple of the hidden size. Attention under a mask costs T^2. At this length it
is a small part of a layer's work (a layer has about 12 D^2 weights, so its share is about T / 6D)."""


@dataclass(frozen=True)
class SequenceBatch:
    """One forward pass. `token_N` are positions of the completion tokens in the flattened rows, `predictor_N` those of the tokens before.

    N runs over the completions in the order of `members`, which are indices into the input of `lay_out`. `spans` define attention in rows
    of families. Without them attention is causal, and restarting position ids separate the sequences of a row. Padding is on the right,
    where no token sees it.
    """

    members: list[int]
    input_ids_BT: torch.Tensor
    position_ids_BT: torch.Tensor
    spans: Spans | None
    masked: bool
    token_N: torch.Tensor
    predictor_N: torch.Tensor

    def model_inputs(self) -> dict[str, Any]:
        """Return the keyword arguments of the model. A mask is made here, for this pass only."""
        inputs: dict[str, Any] = {"input_ids": self.input_ids_BT, "position_ids": self.position_ids_BT}
        if self.spans is None:
            return inputs
        device = self.input_ids_BT.device
        return inputs | ({"attention_mask": self.spans.mask(device)} if self.masked else span_inputs(self.spans, device))


@dataclass
class _Family:
    prompt: Sequence[int]
    members: list[int]
    tokens: int


def only(batch: SequenceBatch, masks: Sequence[Sequence[int]]) -> SequenceBatch:
    """Return the pass with only those completion tokens whose mask value is not 0. The others stay in the input.

    `masks` has one entry for each completion that was laid out.
    """
    kept_N = torch.tensor([own != 0 for member in batch.members for own in masks[member]], device=batch.token_N.device)
    return replace(batch, token_N=batch.token_N[kept_N], predictor_N=batch.predictor_N[kept_N])


def arrangement_of(model: PreTrainedModel) -> Arrangement:
    """Return how to lay out rows for this model, given its attention."""
    if attends_by_spans(model):
        return "spans"
    if "flash" in (model.config._attn_implementation or ""):
        return "packed"
    # Our mask would replace a sliding window, and kernels other than these need masks of their own kind.
    return "shared" if model.config._attn_implementation == "sdpa" and not is_windowed(model) else "padded"


def lay_out(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], model: PreTrainedModel, token_budget: int
) -> list[SequenceBatch]:
    """Lay out all sequences in forward passes of at most `token_budget` tokens with padding. A longer sequence gets its own pass."""
    return arrange(
        prompts, completions, arrangement_of(model), token_budget, ROW_HIDDEN * model.config.get_text_config().hidden_size, model.device
    )


def arrange(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    arrangement: Arrangement,
    token_budget: int,
    row_tokens: int,
    device: torch.device,
) -> list[SequenceBatch]:
    """Lay out in a given arrangement. Rows of families under a mask have at most `row_tokens` tokens, or one family with one completion."""
    if arrangement in ("spans", "shared"):
        longest = token_budget if arrangement == "spans" else min(row_tokens, token_budget)
        rows = _fill(_families(prompts, completions, longest), longest)
    else:
        alone = [
            _Family(prompt, [i], len(prompt) + len(completion))
            for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        ]
        rows = _fill(alone, token_budget) if arrangement == "packed" else [[family] for family in alone]
    # With a second row, FlashAttention could not find where sequences begin.
    batches = (
        [[place] for place in range(len(rows))]
        if arrangement == "packed"
        else plan_micro_batches([sum(family.tokens for family in row) for row in rows], token_budget)
    )
    return [_batch([rows[place] for place in places], completions, arrangement, device) for places in batches]


def plan_micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group rows of similar length so that each group, padded to its longest row, has at most `token_budget` tokens.

    A row longer than the budget forms its own group. Returns indices into `lengths`. Ties keep their order.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if not groups or (len(groups[-1]) + 1) * lengths[index] > token_budget:
            groups.append([])
        groups[-1].append(index)
    return groups


def _families(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], longest: int) -> list[_Family]:
    """Group completions by prompt. A family that would be longer than a row continues in another row, which repeats the prompt."""
    families: list[_Family] = []
    latest: dict[tuple[int, ...], _Family] = {}
    for member, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        family = latest.get(tuple(prompt))
        if family is None or family.tokens + len(completion) > longest:
            family = latest[tuple(prompt)] = _Family(prompt, [], len(prompt))
            families.append(family)
        family.members.append(member)
        family.tokens += len(completion)
    return families


def _fill(families: Iterable[_Family], longest: int) -> list[list[_Family]]:
    """Fill rows of at most `longest` tokens: longest family first, each into the row that it fills best."""
    rows: list[list[_Family]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for family in sorted(families, key=lambda family: -family.tokens):
        place = bisect_left(room, (family.tokens, 0))
        if place < len(room):
            left, row = room.pop(place)
            rows[row].append(family)
        else:
            left, row = longest, len(rows)
            rows.append([family])
        if left > family.tokens:
            insort(room, (left - family.tokens, row))
    return rows


def _batch(
    rows: list[list[_Family]], completions: Sequence[Sequence[int]], arrangement: Arrangement, device: torch.device
) -> SequenceBatch:
    width = max(sum(family.tokens for family in row) for row in rows)
    ids_BT, positions_BT = torch.zeros(2, len(rows), width, dtype=torch.long)
    lengths: list[int] = []
    prefixes: list[int | None] = []
    members: list[int] = []
    tokens: list[torch.Tensor] = []
    predictors: list[torch.Tensor] = []
    for b, row in enumerate(rows):
        end = 0
        for family in row:
            start, fork = end, end + len(family.prompt)
            ids_BT[b, start:fork] = torch.tensor(family.prompt)
            positions_BT[b, start:fork] = torch.arange(len(family.prompt))
            prompt, end = len(lengths), fork
            lengths.append(len(family.prompt))
            prefixes.append(None)
            for member in family.members:
                begin, end = end, end + len(completions[member])
                members.append(member)
                if begin == end:
                    continue
                ids_BT[b, begin:end] = torch.tensor(completions[member])
                positions_BT[b, begin:end] = torch.arange(len(family.prompt), len(family.prompt) + end - begin)
                lengths.append(end - begin)
                prefixes.append(prompt)
                places = torch.arange(b * width + begin, b * width + end)
                tokens.append(places)
                # Each completion's first token is predicted by the prompt's last one.
                predictors.append((places - 1).index_fill(0, torch.tensor([0]), b * width + fork - 1))
        # Position ids continue through padding, so that it does not look like another sequence, which would need a mask.
        positions_BT[b, end:] = torch.arange(end, width)
        if end < width:
            lengths.append(width - end)
            prefixes.append(None)
    families = arrangement in ("spans", "shared")
    nothing = [torch.empty(0, dtype=torch.long)]
    return SequenceBatch(
        members,
        ids_BT.to(device),
        positions_BT.to(device),
        Spans(lengths, prefixes, len(rows)) if families else None,
        arrangement == "shared",
        torch.cat(tokens or nothing).to(device),
        torch.cat(predictors or nothing).to(device),
    )
