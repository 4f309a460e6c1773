"""Reads the documents of a text source in shuffled order: files, globs and URLs, hub datasets, generated texts.

Our choice, since the paper does not specify it: files come in random order, and documents are shuffled within a buffer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from itertools import islice

import fsspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from datasets import load_dataset
from datasets.exceptions import DatasetsError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.texts.generated import GENERATED_PREFIX, generated_texts

HUB_PREFIX, HUB_FILES = "hf://", "hf://datasets/"
"""Prefixes of a hub dataset, and of single files in one."""
SHUFFLE_BUFFER = 10_000
"""Documents in memory while shuffling."""


def read_documents(path: str, seed: int, skip: int = 0, column: str = "text", best_tokens: int | None = None) -> Iterator[str]:
    """Texts of a source in shuffled order, after the first `skip`.

    `path` is a file, a glob or an fsspec URL (`hf://datasets/owner/name/*.jsonl.zst` too) of JSONL, which may be compressed, or Parquet;
    or a hub dataset, `hf://owner/name[@revision][:config[:split]]`. Its texts are in `column`. `generated:KIND[:SEED]` names texts of
    `mathquarry.data.texts.generated`. With `best_tokens`, files are Parquet that also has columns `score` and `tokens`, and only the best
    documents up to that many tokens are read, at least one; equal scores go together. Raises `MathQuarryError` when nothing matches, when
    a file cannot be read, or when it lacks the column.
    """
    if best_tokens is not None:
        texts = _file_texts(path, seed, column, _least_score(path, best_tokens))
    elif path.startswith(GENERATED_PREFIX):
        texts = _generated_texts(path)
    elif path.startswith(HUB_PREFIX) and not path.startswith(HUB_FILES):
        texts = _hub_texts(path, column)
    else:
        texts = _file_texts(path, seed, column)
    return islice(_shuffled(texts, seed), skip, None)


def _shuffled(texts: Iterator[str], seed: int) -> Iterator[str]:
    """Each incoming text replaces a random text in the buffer, which is yielded."""
    rng = np.random.default_rng(seed)
    buffer = list(islice(texts, SHUFFLE_BUFFER))
    for text in texts:
        place = int(rng.integers(len(buffer)))
        yield buffer[place]
        buffer[place] = text
    for place in rng.permutation(len(buffer)).tolist():
        yield buffer[place]


def _generated_texts(path: str) -> Iterator[str]:
    kind, _, seed = path.removeprefix(GENERATED_PREFIX).partition(":")
    if seed and not seed.isdecimal():
        raise MathQuarryError(f"{path}: the seed is {seed!r}, not a number. Write {GENERATED_PREFIX}KIND or {GENERATED_PREFIX}KIND:SEED.")
    return generated_texts(kind, int(seed or 0))


def _matching(path: str) -> tuple[fsspec.AbstractFileSystem, list[str]]:
    files, pattern = fsspec.core.url_to_fs(path)
    names = sorted(files.glob(pattern))
    if not names:
        raise MathQuarryError(f"{path} matches no file. Give a file, a glob, a URL or `{HUB_PREFIX}owner/name:config:split`.")
    return files, names


def _least_score(path: str, best_tokens: int) -> float:
    """The score of the last document within the budget."""
    files, names = _matching(path)
    scores, tokens = [], []
    for name in names:
        try:
            with files.open(name, "rb") as file:
                table = pq.ParquetFile(file).read(columns=["score", "tokens"])
            scores.append(table["score"].to_numpy())
            tokens.append(table["tokens"].to_numpy())
        except (OSError, ValueError, KeyError) as error:
            raise MathQuarryError(f"best_tokens needs the columns `score` and `tokens` of a corpus; {name}: {error}") from error
    best_first = np.argsort(-np.concatenate(scores), kind="stable")
    spent = np.cumsum(np.concatenate(tokens)[best_first], dtype=np.int64)
    paid = max(1, int(np.searchsorted(spent, best_tokens, side="right")))
    return float(np.concatenate(scores)[best_first[paid - 1]])


def _file_texts(path: str, seed: int, column: str, least_score: float | None = None) -> Iterator[str]:
    """Texts of all matching files, file by file in an order drawn from the seed; from Parquet, those with at least `least_score`."""
    files, names = _matching(path)
    for place in np.random.default_rng(seed).permutation(len(names)).tolist():
        name = names[place]
        try:
            yield from _parquet_texts(files, name, column, least_score) if name.endswith(".parquet") else _json_texts(files, name, column)
        except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError) as error:
            raise MathQuarryError(f"cannot read {name}: {error}") from error


def _parquet_texts(files: fsspec.AbstractFileSystem, name: str, column: str, least_score: float | None) -> Iterator[str]:
    with files.open(name, "rb") as file:
        table = pq.ParquetFile(file)
        if column not in table.schema_arrow.names:
            raise MathQuarryError(f"{name} has no column `{column}`, only {', '.join(table.schema_arrow.names)}.")
        for batch in table.iter_batches(batch_size=1024, columns=[column] if least_score is None else [column, "score"]):
            if least_score is not None:
                batch = batch.filter(pc.greater_equal(batch["score"], least_score))
            yield from (text or "" for text in batch[column].to_pylist())


def _json_texts(files: fsspec.AbstractFileSystem, name: str, column: str) -> Iterator[str]:
    with files.open(name, "rt", compression="infer", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)[column] or ""
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise MathQuarryError(f"{name}, line {number} is not a JSON object with a field `{column}`: {error!r}.") from error


def _hub_texts(path: str, column: str) -> Iterator[str]:
    """Texts of a dataset on the Hugging Face hub, streamed."""
    name, config, split = [*path.removeprefix(HUB_PREFIX).split(":"), "", ""][:3]
    name, _, revision = name.partition("@")
    try:
        for record in load_dataset(name, config or None, split=split or "train", revision=revision or None, streaming=True):
            if column not in record:
                raise MathQuarryError(f"{path} has no column `{column}`, only {', '.join(sorted(record))}.")
            yield record[column] or ""
    except (OSError, ValueError, DatasetsError) as error:
        raise MathQuarryError(f"cannot read {path}: {error}") from error
