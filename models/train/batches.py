"""Assigns the rows of an optimizer step to ranks, and stacks rows into tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from transformers import PreTrainedModel

from mathquarry.models.policy.attention import Spans, attends_by_spans, span_inputs
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.train.packing import IGNORED, Row, RowStream


class Batch(TypedDict):
    """Packed rows as tensors (B, T), and the documents in them. `labelled` are the positions of labels in the flattened rows. They are
    computed before the rows are moved to a GPU, since computing them there would synchronise."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    labelled: torch.Tensor
    documents: Spans


def micro_batches(rows: RowStream, places: range, ranks: Ranks, micro_batch_rows: int) -> list[list[Row]]:
    """Return this rank's rows of a step in micro-batches. All ranks have equally many, since they run each forward pass together.

    Each place belongs to one rank. A rank with fewer rows than others gets an extra row without labels.
    """
    mine = [rows[place] for place in places[ranks.rank :: ranks.size]]
    if len(mine) < math.ceil(len(places) / ranks.size):
        mine.append(_without_labels(rows[places[0]]))
    return [mine[start : start + micro_batch_rows] for start in range(0, len(mine), micro_batch_rows)]


def _without_labels(row: Row) -> Row:
    labels = row["labels"]
    ignored = np.full_like(labels, np.nan if labels.dtype.kind == "f" else IGNORED)
    return {"input_ids": row["input_ids"], "position_ids": row["position_ids"], "labels": ignored}


def stack(rows: Sequence[Row], attend_across_documents: bool = False) -> Batch:
    """Stack rows into tensors. With `attend_across_documents`, each row is one document."""
    ids_BT, labels_BT = np.stack([row["input_ids"] for row in rows]), np.stack([row["labels"] for row in rows])
    positions_BT = np.stack([row["position_ids"] for row in rows])
    if attend_across_documents:
        positions_BT = np.broadcast_to(np.arange(positions_BT.shape[1]), positions_BT.shape).copy()
    begins_BT = positions_BT == 0
    begins_BT[:, 0] = True
    starts = np.flatnonzero(begins_BT)
    documents = Spans(np.diff(starts, append=positions_BT.size).tolist(), rows=len(rows))
    return {
        "input_ids": torch.from_numpy(ids_BT),
        "position_ids": torch.from_numpy(positions_BT),
        "labels": torch.from_numpy(labels_BT),
        "labelled": torch.from_numpy(_labelled_places(labels_BT)),
        "documents": documents,
    }


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch to a device."""

    def placed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    return {
        "input_ids": placed(batch["input_ids"]),
        "position_ids": placed(batch["position_ids"]),
        "labels": placed(batch["labels"]),
        "labelled": placed(batch["labelled"]),
        "documents": batch["documents"],
    }


def _labelled_places(labels_BT: np.ndarray) -> np.ndarray:
    """Return the positions of labels in the flattened rows. A label that is a token id needs a previous token to be predicted from."""
    if labels_BT.dtype.kind == "f":
        return np.flatnonzero(~np.isnan(labels_BT))
    found_BT = labels_BT != IGNORED
    found_BT[:, 0] = False
    return np.flatnonzero(found_BT)


def model_inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    """Return the keyword arguments for a forward pass that keeps the documents of a row separate."""
    # use_cache: with a key-value cache, transformers ignores position ids, and documents in a row would see each other
    inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
    return inputs | span_inputs(batch["documents"], batch["input_ids"].device) if attends_by_spans(model) else inputs


def labelled(labels_BT: torch.Tensor) -> torch.Tensor:
    """Return a mask of the labels."""
    return ~labels_BT.isnan() if labels_BT.is_floating_point() else labels_BT != IGNORED
