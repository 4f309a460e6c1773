"""Which rows of an optimizer step a rank computes, and rows as tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from models.distributed import Ranks
from models.packing import IGNORED, Row, RowStream

Batch = dict[str, torch.Tensor]
"""input_ids_BT, position_ids_BT, labels_BT of some packed rows."""


def micro_batches(rows: RowStream, places: range, ranks: Ranks, micro_batch_rows: int) -> list[list[Row]]:
    """This rank's rows of a step in micro-batches; as many on every rank, since a forward pass is joint work.

    Each place belongs to one rank. A rank with a row less than others gets one more without labels.
    """
    mine = [rows[place] for place in places[ranks.rank :: ranks.size]]
    if len(mine) < math.ceil(len(places) / ranks.size):
        mine.append(_without_labels(rows[places[0]]))
    return [mine[start : start + micro_batch_rows] for start in range(0, len(mine), micro_batch_rows)]


def _without_labels(row: Row) -> Row:
    labels = row["labels"]
    ignored = np.full_like(labels, np.nan if labels.dtype.kind == "f" else IGNORED)
    return {"input_ids": row["input_ids"], "position_ids": row["position_ids"], "labels": ignored}


def stack(rows: Sequence[Row]) -> Batch:
    """Rows as tensors."""
    return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in ("input_ids", "position_ids", "labels")}


def labelled(labels_BT: torch.Tensor) -> torch.Tensor:
    """Where there is a label."""
    return ~labels_BT.isnan() if labels_BT.is_floating_point() else labels_BT != IGNORED
