"""Stage `import`, of texts: a corpus from outside as an artifact that pretraining reads like a mined one."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path
from mathquarry.data.store.workspace import Workspace
from mathquarry.data.texts.documents import read_documents

SCHEMA = pa.schema([("text", pa.string())])
_TEXTS = 10_000
"""Texts in a row group."""


def import_corpus(path: str, workspace: Workspace) -> dict[str, int]:
    """Write the texts that `path` names, as a source of the pretraining mix does, to `workspace.out / "corpus" / "part-00000.parquet"`.

    Returns their number and characters. Raises `MathQuarryError` when they cannot be read, or when there is none.
    """
    characters = documents = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal characters, documents
        texts: list[str] = []
        for text in read_documents(path, seed=0):
            documents, characters = documents + 1, characters + len(text)
            texts.append(text)
            if len(texts) == _TEXTS:
                yield pa.RecordBatch.from_pydict({"text": texts}, schema=SCHEMA)
                texts = []
        if texts:
            yield pa.RecordBatch.from_pydict({"text": texts}, schema=SCHEMA)

    part = workspace.out / "corpus" / "part-00000.parquet"
    with atomic_path(part) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for batch in batches():
            writer.write_batch(batch)
    if not characters:
        raise MathQuarryError(f"start.corpus: {path} has no text in its column `text`.")
    return {"documents": documents, "characters": characters}
