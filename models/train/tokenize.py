"""Tokenises text into shards, and defines the pretraining mix: which rows are trained on, in which order.

A source's documents form one stream of tokens, `BOS text EOS` each. The stream is stored in shards on disk (memory-mapped when read) and
cut into rows of the context length. A shard counts once its record is written, so finished shards of an interrupted run are reused.

Our choices, where the paper does not say:
1. files are read in random order, documents are shuffled in a buffer, and a source is only tokenised as far as the run will read;
2. a source with too few tokens is read again, with its rows in another order;
3. documents in a row do not see each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path, read_json, write_json
from mathquarry.data.store.workspace import Workspace
from mathquarry.data.texts.documents import read_documents
from mathquarry.models.policy.tokenizer import encode_all, start_tokens
from mathquarry.models.train.config import MixSource
from mathquarry.models.train.packing import IGNORED, Row

DOCUMENTS_AT_ONCE = 512
"""Documents per call of the tokenizer. Its threads share them, one thread per core."""


@dataclass(frozen=True)
class _Done:
    """Record of progress, written with each shard (everything up to its end) and at the end of a source."""

    documents: int
    tokens: int


class TokenStream:
    """The tokens of one source as rows of `context_tokens`. The last, incomplete row is left out."""

    def __init__(self, name: str, shards: Sequence[Path], context_tokens: int, eos: int) -> None:
        """Raises `MathQuarryError` if the source does not fill a single row, or if a shard is damaged."""
        self.name, self.context_tokens, self.eos = name, context_tokens, eos
        self._paths = list(shards)
        self._shards = [_open_shard(shard) for shard in shards]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        if len(self) == 0:
            raise MathQuarryError(f"mix source {name!r} has {self.tokens} tokens, fewer than context_tokens = {context_tokens}.")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the paths of the shards, not their tokens."""
        return {**vars(self), "_shards": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _shards=[_open_shard(path) for path in state["_paths"]])

    @property
    def tokens(self) -> int:
        """Tokens in the stream."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        return self.tokens // self.context_tokens

    def __getitem__(self, index: int) -> Row:
        start, end = index * self.context_tokens, (index + 1) * self.context_tokens
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, end, side="left"))
        parts = [self._shards[k][max(0, start - self._starts[k]) : end - self._starts[k]] for k in range(first, last)]
        return document_row(np.concatenate(parts).astype(np.int64), self.eos)


def document_row(tokens: np.ndarray, eos: int) -> Row:
    """Cut a row from a stream of documents: positions restart after each EOS, and the first token of a document or row has no loss."""
    places = np.arange(len(tokens))
    begins = np.ones(len(tokens), dtype=bool)
    begins[1:] = tokens[:-1] == eos
    positions = places - np.maximum.accumulate(np.where(begins, places, 0))
    return {"input_ids": tokens, "position_ids": positions, "labels": np.where(begins, IGNORED, tokens)}


class Mix:
    """The rows of a pretraining run, in order. The row at a place depends only on the seed, the weights and the place."""

    def __init__(self, streams: Sequence[TokenStream], counts: np.ndarray, seed: int) -> None:
        """`counts[t, s]` is the number of rows of source s in step t, from `rows_by_step`."""
        self.streams, self.seed = streams, seed
        self.rows_per_step = int(counts[0].sum())
        self._ends = np.cumsum(counts, axis=1)
        self._before = np.concatenate([np.zeros((1, counts.shape[1]), dtype=np.int64), np.cumsum(counts, axis=0)])
        self._step_order: tuple[int, np.ndarray] = (-1, np.empty(0))
        self._pass_orders: dict[tuple[int, int], np.ndarray] = {}

    def __getitem__(self, place: int) -> Row:
        step, slot = divmod(place, self.rows_per_step)
        if self._step_order[0] != step:
            self._step_order = step, np.random.default_rng([self.seed, 0, step]).permutation(self.rows_per_step)
        drawn = int(self._step_order[1][slot])
        source = int(np.searchsorted(self._ends[step], drawn, side="right"))
        first = int(self._ends[step][source - 1]) if source else 0
        rank = int(self._before[step, source]) + drawn - first
        repeat, index = divmod(rank, len(self.streams[source]))
        return self.streams[source][int(self._pass_order(source, repeat)[index])]

    def _pass_order(self, source: int, repeat: int) -> np.ndarray:
        key = source, repeat
        if key not in self._pass_orders:
            # A step can contain the end of one pass and the start of the next, so keep the previous pass.
            self._pass_orders = {k: v for k, v in self._pass_orders.items() if k[0] != source or k[1] == repeat - 1}
            self._pass_orders[key] = np.random.default_rng([self.seed, 1, source, repeat]).permutation(len(self.streams[source]))
        return self._pass_orders[key]

    def summary(self) -> dict[str, int | float]:
        """Return, for each source, tokens trained on, tokens available (as far as it was read), and the number of passes."""
        report: dict[str, int | float] = {}
        for stream, rows in zip(self.streams, self._before[-1].tolist(), strict=True):
            report[f"{stream.name}_tokens_trained"] = rows * stream.context_tokens
            report[f"{stream.name}_tokens_read"] = stream.tokens
            report[f"{stream.name}_epochs"] = round(rows / len(stream), 3)
        return report


def rows_by_step(weights: Sequence[float], rows_per_step: int, steps: int) -> np.ndarray:
    """Return the rows of each source in each step, (steps, sources). After every step, totals are within about a row of the weights."""
    shares = np.asarray(weights) / np.sum(weights)
    counts = np.zeros((steps, len(shares)), dtype=np.int64)
    given = np.zeros(len(shares), dtype=np.int64)
    for step in range(steps):
        owed = shares * rows_per_step * (step + 1) - given
        rows = np.maximum(0, np.floor(owed)).astype(np.int64)
        while (missing := rows_per_step - rows.sum()) != 0:
            if missing > 0:
                rows[np.argmax(owed - rows)] += 1
            else:
                rows[np.argmin(np.where(rows > 0, owed - rows, np.inf))] -= 1
        counts[step] = rows
        given += rows
    return counts


def tokenise_source(
    source: MixSource,
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    workspace: Workspace,
    *,
    context_tokens: int,
    wanted_tokens: int,
    shard_tokens: int,
    seed: int,
) -> TokenStream:
    """Tokenise a source into shards under `workspace.scratch / "tokens" / name`, until it ends or has `wanted_tokens`.

    Continues after the finished shards of an interrupted call. Raises `MathQuarryError` if a source cannot be read or does not fill a row.
    """
    folder = workspace.scratch / "tokens" / source.name
    shards = _finished_shards(folder)
    done = _Done(**read_json(_record(shards[-1]))) if shards else _Done(0, 0)
    writer = _ShardWriter(folder, len(shards), done, shard_tokens, np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32))
    with workspace.progress.track(f"tokenise {source.name}", wanted_tokens, "token", done.tokens) as bar:
        unread = done.tokens < wanted_tokens
        documents = read_documents(path, seed, done.documents, source.text_column, source.best_tokens) if unread else iter(())
        while texts := list(islice(documents, DOCUMENTS_AT_ONCE)):
            for ids in encode_all(tokenizer, texts):
                bar.advance(writer.add([*start_tokens(tokenizer), *ids, tokenizer.eos_token_id] if ids else []))
            if writer.tokens >= wanted_tokens:
                break
        writer.close_shard()
    return TokenStream(source.name, _finished_shards(folder), context_tokens, tokenizer.eos_token_id)


class _ShardWriter:
    """Collects documents, and writes a shard when there are enough tokens. Shards end at the ends of documents."""

    def __init__(self, folder: Path, shards: int, done: _Done, shard_tokens: int, dtype: np.dtype) -> None:
        self.folder, self.shards, self.shard_tokens, self.dtype = folder, shards, shard_tokens, dtype
        self.documents, self.tokens = done.documents, done.tokens
        self._pending: list[np.ndarray] = []
        self._pending_tokens = 0

    def add(self, ids: list[int]) -> int:
        """Append a document (an empty one only counts as read). Returns its number of tokens."""
        self.documents += 1
        self.tokens += len(ids)
        self._pending.append(np.asarray(ids, dtype=self.dtype))
        self._pending_tokens += len(ids)
        if self._pending_tokens >= self.shard_tokens:
            self.close_shard()
        return len(ids)

    def close_shard(self) -> None:
        """Write pending tokens: first the tokens, then the record that makes them count."""
        if not self._pending_tokens:
            return
        shard = self.folder / f"shard-{self.shards:05d}.npy"
        with atomic_path(shard) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(self._pending))
        write_json(_record(shard), asdict(_Done(self.documents, self.tokens)))
        self.shards += 1
        self._pending, self._pending_tokens = [], 0


def _open_shard(shard: Path) -> np.ndarray:
    """Memory-map the tokens of a shard."""
    try:
        return np.load(shard, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise MathQuarryError(f"the token shard {shard} is damaged: {error}. Delete it, then run again to create it.") from error


def _record(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _finished_shards(folder: Path) -> list[Path]:
    """Return the shards from the first on without a gap. Shards after a missing one are written again."""
    finished: list[Path] = []
    while (shard := folder / f"shard-{len(finished):05d}.npy").exists() and _record(shard).exists():
        finished.append(shard)
    return finished
