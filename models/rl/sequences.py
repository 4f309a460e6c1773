"""Prompts and outputs laid out in rows for a forward pass, every prompt computed once for its outputs where that can be done.

A row holds families: a prompt followed by some of its outputs. An attention mask lets each output see its prompt and itself, and position
ids of each output go on where the prompt ends, so every token sees what it would see if its sequence stood alone.

Shape suffixes: B rows, T tokens, N output tokens of all sequences.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel

Arrangement = Literal["shared", "packed", "padded"]
"""`shared`: families, under a mask. `packed`: whole sequences one after another in a single row, told apart by position ids alone, which
is what FlashAttention reads. `padded`: one sequence a row."""

ROW_HIDDEN = 2
"""Longest row of families, as a multiple of the hidden size. Attention under a mask costs T^2; at this length it is a small part of a
layer's work (weights of a layer are about 12 D^2, so its share is about T / 6D)."""


@dataclass(frozen=True)
class SequenceBatch:
    """One forward pass. `token_N` are the places of the output tokens in the flattened rows, `predictor_N` of the tokens before them.

    N runs over the outputs in the order of `members`, which are indices into what was laid out. `mask_BTT` says who sees whom; without it
    attention is causal, and restarting position ids tell sequences of a row apart. Padding is on the right, where no token sees it.
    """

    members: list[int]
    input_ids_BT: torch.Tensor
    position_ids_BT: torch.Tensor
    mask_BTT: torch.Tensor | None
    token_N: torch.Tensor
    predictor_N: torch.Tensor

    def model_inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model."""
        inputs = {"input_ids": self.input_ids_BT, "position_ids": self.position_ids_BT}
        return inputs if self.mask_BTT is None else {**inputs, "attention_mask": self.mask_BTT[:, None]}


@dataclass
class _Family:
    prompt: Sequence[int]
    members: list[int]
    tokens: int


def arrangement_of(model: PreTrainedModel) -> Arrangement:
    """How rows are laid out for this model: `shared` where attention takes a mask of ours, `packed` with FlashAttention."""
    if "flash" in (model.config._attn_implementation or ""):
        return "packed"
    # A sliding window is a mask of the model's own, which ours would replace; kernels other than these want masks of their own kind.
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    windowed = kinds != {"full_attention"} or getattr(model.config.get_text_config(), "sliding_window", None)
    return "shared" if model.config._attn_implementation == "sdpa" and not windowed else "padded"


def lay_out(
    prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], model: PreTrainedModel, token_budget: int
) -> list[SequenceBatch]:
    """All sequences in forward passes of at most `token_budget` tokens, padding included; a longer sequence is a pass of its own."""
    return arrange(
        prompts, outputs, arrangement_of(model), token_budget, ROW_HIDDEN * model.config.get_text_config().hidden_size, model.device
    )


def arrange(
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    arrangement: Arrangement,
    token_budget: int,
    row_tokens: int,
    device: torch.device,
) -> list[SequenceBatch]:
    """`lay_out` in a given arrangement. Rows of families are at most `row_tokens` long, or one family with one output."""
    if arrangement == "shared":
        rows = _fill(_families(prompts, outputs, min(row_tokens, token_budget)), min(row_tokens, token_budget))
    else:
        alone = [_Family(prompt, [i], len(prompt) + len(output)) for i, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))]
        rows = _fill(alone, token_budget) if arrangement == "packed" else [[family] for family in alone]
    # A second row would hide from FlashAttention where sequences begin.
    batches = (
        [[place] for place in range(len(rows))]
        if arrangement == "packed"
        else plan_micro_batches([sum(family.tokens for family in row) for row in rows], token_budget)
    )
    return [_batch([rows[place] for place in places], outputs, arrangement == "shared", device) for places in batches]


def plan_micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group rows of like length so that each group, padded to its longest, holds at most `token_budget` tokens.

    A row longer than the budget is a group of its own. Returns indices into `lengths`; ties keep their order.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if not groups or (len(groups[-1]) + 1) * lengths[index] > token_budget:
            groups.append([])
        groups[-1].append(index)
    return groups


def _families(prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], longest: int) -> list[_Family]:
    """Outputs by prompt; a family that would outgrow a row goes on in another one, with a prompt of its own."""
    families: list[_Family] = []
    latest: dict[tuple[int, ...], _Family] = {}
    for member, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        family = latest.get(tuple(prompt))
        if family is None or family.tokens + len(output) > longest:
            family = latest[tuple(prompt)] = _Family(prompt, [], len(prompt))
            families.append(family)
        family.members.append(member)
        family.tokens += len(output)
    return families


def _fill(families: Iterable[_Family], longest: int) -> list[list[_Family]]:
    """Rows of at most `longest` tokens: longest family first, each into the row that it fills best."""
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


def _batch(rows: list[list[_Family]], outputs: Sequence[Sequence[int]], masked: bool, device: torch.device) -> SequenceBatch:
    width = max(sum(family.tokens for family in row) for row in rows)
    ids_BT, positions_BT = torch.zeros(2, len(rows), width, dtype=torch.long)
    family_BT = torch.full((len(rows), width), -1)
    branch_BT = torch.zeros(len(rows), width, dtype=torch.long)  # 0: prompt; k: the k-th output of the family
    members: list[int] = []
    tokens: list[torch.Tensor] = []
    predictors: list[torch.Tensor] = []
    for b, row in enumerate(rows):
        end = 0
        for f, family in enumerate(row):
            start, fork = end, end + len(family.prompt)
            ids_BT[b, start:fork] = torch.tensor(family.prompt)
            positions_BT[b, start:fork] = torch.arange(len(family.prompt))
            end = fork
            for k, member in enumerate(family.members, 1):
                begin, end = end, end + len(outputs[member])
                ids_BT[b, begin:end] = torch.tensor(outputs[member])
                positions_BT[b, begin:end] = torch.arange(len(family.prompt), len(family.prompt) + end - begin)
                branch_BT[b, begin:end] = k
                places = torch.arange(b * width + begin, b * width + end)
                members.append(member)
                tokens.append(places)
                # Each output's first token is predicted by the prompt's last one.
                predictors.append((places - 1).index_fill(0, torch.tensor([0]), b * width + fork - 1) if len(places) else places)
            family_BT[b, start:end] = f
        # Padding goes on counting, so that it does not look like another sequence, which would need a mask.
        positions_BT[b, end:] = torch.arange(end, width)
    mask_BTT = None
    if masked:
        related_BTT = family_BT[:, :, None] == family_BT[:, None, :]
        in_sight_BTT = (branch_BT[:, None, :] == 0) | (branch_BT[:, :, None] == branch_BT[:, None, :])
        mask_BTT = (related_BTT & in_sight_BTT).tril().to(device)
    return SequenceBatch(
        members,
        ids_BT.to(device),
        positions_BT.to(device),
        mask_BTT,
        torch.cat(tokens).to(device),
        torch.cat(predictors).to(device),
    )
