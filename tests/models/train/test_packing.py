"""Packing of examples into rows, and the order of the rows in a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.train.batches import Batch, stack
from mathquarry.models.train.fit import language_model_loss
from mathquarry.models.train.packing import IGNORED, Epochs, PackedRows, pack
from tests.models.rank_work import small_model


def some_examples(count: int, seed: int = 0, longest: int = 12) -> list[tuple[list[int], list[int]]]:
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        ids = rng.integers(1, 50, size=rng.integers(4, longest + 1)).tolist()
        examples.append((ids, [IGNORED, IGNORED, *ids[2:]]))
    return examples


def batch_of(rows: PackedRows) -> Batch:
    return stack([rows[i] for i in range(len(rows))])


def test_examples_are_packed_whole_and_too_long_ones_are_counted() -> None:
    examples = [*some_examples(40), (list(range(17)), list(range(17)))]
    rows = pack(examples, 16, seed=3)
    assert rows.dropped == 1
    assert sorted(example for row in rows.rows for example in row) == list(range(40))
    for i, members in enumerate(rows.rows):
        start = 0
        for example in members:
            ids, labels = examples[example]
            part = slice(start, start + len(ids))
            assert rows[i]["input_ids"][part].tolist() == ids
            assert rows[i]["labels"][part].tolist() == labels
            assert rows[i]["position_ids"][part].tolist() == list(range(len(ids)))
            start += len(ids)
        assert (rows[i]["labels"][start:] == IGNORED).all()
    tokens = sum(len(ids) for ids, _ in examples[:40])
    assert tokens / (len(rows) * 16) > 0.8
    with pytest.raises(MathQuarryError, match="no example fits context_tokens = 3"):
        pack(examples, 3, seed=0)


def test_an_example_as_long_as_a_row_fills_it() -> None:
    rows = pack([([5, 6, 7], [5, 6, 7]), ([8], [8])], 3, seed=0)
    assert (rows.dropped, sorted(rows.rows)) == (0, [[0], [1]])


def test_number_labels_are_padded_with_nan() -> None:
    row = pack([([5, 6, 7], [math.nan, 0.0, 1.0])], 5, seed=0)[0]
    np.testing.assert_array_equal(row["labels"], np.array([math.nan, 0, 1, math.nan, math.nan], dtype=np.float32))


def test_packed_rows_give_the_loss_and_gradient_of_padded_examples() -> None:
    examples = some_examples(12)
    model = small_model()
    count = torch.tensor(sum(label != IGNORED for _, labels in examples for label in labels))

    language_model_loss(model, batch_of(pack(examples, 32, seed=0)), count).backward()
    packed = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    total = torch.zeros(())
    for ids, labels in examples:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum", ignore_index=IGNORED) / count
    total.backward()
    alone = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert language_model_loss(model, batch_of(pack(examples, 32, seed=0)), count).item() == pytest.approx(total.item(), abs=1e-5)
    for one, other in zip(packed, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_an_example_does_not_see_its_neighbours_in_the_row() -> None:
    model = small_model().eval()
    second = [7, 8, 9, 10]
    for first in ([1, 2, 3], [4, 5, 6]):
        rows = PackedRows([(first, first), (second, second)], [[0, 1]], 10, 0)
        row = batch_of(rows)
        hidden = model.base_model(input_ids=row["input_ids"], position_ids=row["position_ids"], use_cache=False).last_hidden_state
        alone = model.base_model(input_ids=torch.tensor([second])).last_hidden_state
        torch.testing.assert_close(hidden[:, 3:7], alone)


def test_what_is_too_long_keeps_nothing_else_out_of_a_row() -> None:
    """Whatever the order: examples of two lengths, every second one too long."""
    examples = [([n] * (2 if n % 2 else 9), [n] * (2 if n % 2 else 9)) for n in range(1, 13)]
    for seed in range(4):
        rows = pack(examples, 4, seed)
        assert rows.dropped == 6
        assert sorted(map(len, rows.rows)) == [2, 2, 2]
        assert pack(examples, 4, seed, lengths=[len(ids) for ids, _ in examples]).rows == rows.rows


def test_each_pass_has_every_row_once_in_an_order_of_its_own_whatever_was_read_before() -> None:
    rows = pack([([n, n], [n, n]) for n in range(1, 9)], 2, seed=0)
    stream = Epochs(rows, seed=1)
    passes = [[int(stream[8 * epoch + place]["input_ids"][0]) for place in range(8)] for epoch in range(3)]
    assert [sorted(order) for order in passes] == [list(range(1, 9))] * 3
    assert len(set(map(tuple, passes))) == 3
    again = Epochs(rows, seed=1)
    assert [int(again[place]["input_ids"][0]) for place in (20, 3, 11, 19)] == [passes[2][4], passes[0][3], passes[1][3], passes[2][3]]
    assert [int(Epochs(rows, seed=2)[place]["input_ids"][0]) for place in range(8)] != passes[0]
