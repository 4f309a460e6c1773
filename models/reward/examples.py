"""Labelled solutions, stored as columns in files instead of objects in memory: millions of them are a few GB, read when needed.

Between stages they are Parquet (`reward_data.parquet`). For training they are written to an Arrow file that is memory-mapped, so they take
no process memory, and any number of ranks share the file. A `RewardExample` is created on access.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.models.train.packing import Labelled

SCHEMA = pa.schema(
    [
        ("iteration", pa.int32()),
        ("problem_id", pa.string()),
        ("prompt", pa.list_(pa.int32())),
        ("completion", pa.list_(pa.int32())),
        ("step_ends", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.float32())),
        ("correct", pa.bool_()),
        ("finished", pa.bool_()),
    ]
)
BATCH = 4096
"""Examples that are read or written in one batch."""


@dataclass(frozen=True, slots=True)
class RewardExample:
    """A solution with its labels: one for each of `step_ends`, or one for the last token (outcome supervision)."""

    iteration: int
    problem_id: str
    prompt: list[int]
    completion: list[int]
    step_ends: list[int]
    labels: list[float]
    correct: bool
    finished: bool

    @property
    def label_ends(self) -> list[int]:
        """Indices into `completion` of the labelled tokens."""
        return self.step_ends[-len(self.labels) :]


class RewardExamples(Sequence[RewardExample]):
    """A sequence of examples: all rows of a table, or the rows at some `places`, in that order."""

    def __init__(self, table: pa.Table, places: np.ndarray | None = None, file: Path | None = None) -> None:
        """`file` is the Arrow file that the table is mapped from. A copy in another process then maps it too."""
        self.table, self.file = table, file
        self.places = np.arange(len(table)) if places is None else places

    @classmethod
    def of(cls, examples: Iterable[RewardExample]) -> RewardExamples:
        """Make a sequence from examples in memory."""
        return cls(pa.Table.from_batches(_batches(examples), SCHEMA))

    @classmethod
    def map(cls, file: Path) -> RewardExamples:
        """Map a file that `write_mapped` wrote, without reading it."""
        with pa.memory_map(str(file)) as source:
            return cls(pa.ipc.open_file(source).read_all(), file=file)

    def __reduce__(self) -> tuple[Any, ...]:
        return (RewardExamples, (self.table, self.places)) if self.file is None else (_mapped_at, (self.file, self.places))

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> RewardExample: ...
    @overload
    def __getitem__(self, index: slice) -> RewardExamples: ...
    def __getitem__(self, index: int | slice) -> RewardExample | RewardExamples:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        place = int(self.places[index])
        return RewardExample(**{name: self.table.column(name)[place].as_py() for name in SCHEMA.names})

    def __iter__(self) -> Iterator[RewardExample]:
        for batch in self.batches():
            yield from (RewardExample(**row) for row in batch.to_pylist())

    def select(self, indices: np.ndarray) -> RewardExamples:
        """Return the examples at some indices. They share the table."""
        return RewardExamples(self.table, self.places[indices], self.file)

    def batches(self) -> Iterator[pa.Table]:
        """Yield the examples as tables of up to `BATCH` rows, in order."""
        for start in range(0, len(self), BATCH):
            places = self.places[start : start + BATCH]
            first, last = int(places.min()), int(places.max())
            # Slice first: taking rows from a table with several chunks can copy all of it.
            yield self.table.slice(first, last - first + 1).combine_chunks().take(places - first)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column: one value per example."""
        return self.table.column(name).take(self.places)

    def token_counts(self) -> np.ndarray:
        """Return the number of tokens in prompt and completion of each example."""
        counts = pc.add(*(pc.list_value_length(self.table.column(name)) for name in ("prompt", "completion")))
        return counts.to_numpy()[self.places]


class LabelledExamples(Sequence[Labelled]):
    """Examples in the form that the training loop packs: prompt and completion, with a label at each labelled step end, else NaN."""

    def __init__(self, examples: RewardExamples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Labelled: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Labelled]: ...
    def __getitem__(self, index: int | slice) -> Labelled | Sequence[Labelled]:
        if isinstance(index, slice):
            return LabelledExamples(self.examples[index])
        place = int(self.examples.places[index])
        columns = (self.examples.table.column(name)[place] for name in ("prompt", "completion", "step_ends", "labels"))
        prompt, completion, ends, values = (column.values.to_numpy(zero_copy_only=False) for column in columns)
        labels = np.full(len(prompt) + len(completion), math.nan, np.float32)
        labels[len(prompt) + ends[-len(values) :]] = values
        return np.concatenate([prompt, completion]), labels


def write_reward_data(path: Path, examples: Iterable[RewardExample] | RewardExamples) -> None:
    """Write examples as Parquet, atomically and in batches."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for batch in _batches(examples):
            writer.write_batch(batch)


def read_reward_data(path: Path) -> RewardExamples:
    """Read a file of `write_reward_data`. Raises `MathQuarryError` if it is missing or has other content."""
    return RewardExamples(pa.Table.from_batches(_read_batches(path), SCHEMA))


def write_mapped(file: Path, sources: Iterable[RewardExamples | Path]) -> RewardExamples:
    """Write examples (given, or in files of `write_reward_data`) one after another to an Arrow file, and map it."""
    with atomic_path(file) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for source in sources:
            for batch in _read_batches(source) if isinstance(source, Path) else _batches(source):
                writer.write_batch(batch)
    return RewardExamples.map(file)


def read_problem_ids(path: Path) -> pa.ChunkedArray:
    """Return the problem id of each example in a file of `write_reward_data`. Raises the same errors as `read_reward_data`."""
    return pa.Table.from_batches(_read_batches(path, ["problem_id"])).column("problem_id")


def read_places(path: Path, places: np.ndarray) -> pa.Table:
    """Read the rows of a file of `write_reward_data` at ascending indices. Only one batch is in memory at a time."""
    found, start = [SCHEMA.empty_table()], 0
    for batch in _read_batches(path):
        inside = places[(places >= start) & (places < start + len(batch))] - start
        if len(inside):
            found.append(pa.Table.from_batches([batch]).take(inside))
        start += len(batch)
    return pa.concat_tables(found)


def _mapped_at(file: Path, places: np.ndarray) -> RewardExamples:
    return RewardExamples.map(file).select(places)


def _batches(examples: Iterable[RewardExample] | RewardExamples) -> Iterator[pa.RecordBatch]:
    if isinstance(examples, RewardExamples):
        for table in examples.batches():
            yield from table.combine_chunks().to_batches()
    else:
        unread = iter(examples)
        while some := [asdict(example) for example in islice(unread, BATCH)]:
            yield pa.RecordBatch.from_pylist(some, SCHEMA)


def _read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise pa.ArrowInvalid(f"its columns are {', '.join(file.schema_arrow.names)}")
            # A file without rows has no batch, but a table needs one.
            yield from file.iter_batches(BATCH, columns=columns)
            yield pa.RecordBatch.from_pylist([], SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns]))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> MathQuarryError:
    return MathQuarryError(f"{path} is not reward data: {error}. Run the reward stage again.")
