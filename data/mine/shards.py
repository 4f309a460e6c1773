"""WARC files -> pages with text: one Parquet shard a WARC, made by many processes, found again after a kill.

A shard holds every page of its WARC in the WARC's order: pages with text, and dropped ones with the reason and no
text. Later steps refer to a page by its position in the crawl: all kept pages of all shards, in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.config import DedupConfig, MineConfig
from data.crawl.warc import Dropped, read_pages
from data.errors import MathQuarryError
from data.extract.html import Extracted
from data.extract.limited import ExtractionStopped, Extractor
from data.files import atomic_path, read_json
from data.mine.dedup import Signatures, minhash
from data.mine.pool import WorkerPool
from data.mine.urls import Address, parse_address

Mask = NDArray[np.bool_]

_BATCH = 512
_INDEX_COLUMNS = [
    "url", "canonical_url", "host", "domain", "path", "title", "formulas", "language", "bytes", "tokens", "warc", "offset", "digest"
]  # fmt: skip
_SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("canonical_url", pa.string()),
        ("host", pa.string()),
        ("domain", pa.string()),
        ("path", pa.string()),
        ("title", pa.string()),
        ("text", pa.large_string()),
        ("formulas", pa.int32()),
        ("formula_kinds", pa.map_(pa.string(), pa.int32())),
        ("language", pa.string()),
        ("bytes", pa.int64()),
        ("tokens", pa.int32()),
        ("warc", pa.string()),
        ("offset", pa.int64()),
        ("digest", pa.binary(16)),
        ("minhash", pa.binary()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


def token_estimate(text_bytes: int) -> int:
    """Tokens of a text of so many UTF-8 bytes, at four bytes a token: an estimate for budgets, exact counts come with the tokenizer."""
    return max(1, text_bytes // 4)


class WarcFile(NamedTuple):
    """One WARC file of a crawl artifact."""

    name: str
    """As the artifact lists it: the same wherever the artifact lies, so it may stand in outputs."""
    path: str
    """Absolute path or URL."""


def warc_files(crawl: Path) -> list[WarcFile]:
    """The WARC files of a crawl artifact, in its order. Raises `MathQuarryError` when it lists none."""
    listing = crawl / "warcs.json"
    entries = read_json(listing).get("files", [])
    if not entries:
        raise MathQuarryError(f"{listing} lists no WARC files; check `source` of the crawl section.")
    names = [entry["path"] for entry in entries]
    return [WarcFile(name, name if "://" in name else str(crawl / name)) for name in names]


def extract_crawl(files: Sequence[WarcFile], folder: Path, config: MineConfig, pool: WorkerPool) -> list[Path]:
    """Extract every WARC into a shard in `folder`; shards that are there already are kept. Returns the shards in the order of `files`."""
    shards = [folder / f"{number:06d}.parquet" for number in range(len(files))]
    jobs = [(file, shard, config) for file, shard in zip(files, shards, strict=True) if not shard.exists()]
    pool.run("extract pages", "WARC", extract_warc, jobs)
    return shards


def extract_warc(file: WarcFile, shard: Path, config: MineConfig) -> None:
    """Read one WARC and write its shard, atomically and in bounded memory."""
    with atomic_path(shard) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        rows: list[dict] = []
        for row in _page_rows(file, config):
            rows.append(row)
            if len(rows) == _BATCH:
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))


def _page_rows(file: WarcFile, config: MineConfig) -> Iterator[dict]:
    with Extractor(config.page_seconds, round(config.page_memory_gib * 2**30)) as extractor:
        yield from _rows(file, config, extractor)


def _rows(file: WarcFile, config: MineConfig, extractor: Extractor) -> Iterator[dict]:
    for page in read_pages(file.path, config.max_page_bytes):
        if isinstance(page, Dropped):
            detail = page.detail.replace(file.path, file.name)
            if page.reason == "broken-warc" and file.name not in detail:
                detail = f"{file.name}: {detail}"
            yield {"url": page.url, "warc": file.name, "reason": page.reason, "detail": detail}
            continue
        where = {"url": page.url, "warc": file.name, "offset": page.offset}
        address = parse_address(page.url)
        if address is None:
            yield where | {"reason": "bad-url", "detail": "not an http(s) address with a host"}
            continue
        try:
            found = extractor.extract(page.html)
        except ExtractionStopped as stop:
            yield where | {"reason": "extraction-stopped", "detail": str(stop)}
            continue
        text = found.text.strip()
        if not text:
            yield where | {"reason": "no-text", "detail": "no text in the page's main content"}
        elif len(text) < config.min_characters:
            yield where | {"reason": "too-short", "detail": f"{len(text)} characters of text, fewer than {config.min_characters}"}
        else:
            yield where | _kept_row(address, text, found, config.dedup)


def _kept_row(address: Address, text: str, found: Extracted, dedup: DedupConfig) -> dict:
    encoded = text.encode("utf-8", "replace")
    return {
        "canonical_url": address.canonical,
        "host": address.host,
        "domain": address.domain,
        "path": address.path,
        "title": found.title,
        "text": encoded.decode(),  # lone surrogates cannot be stored
        "formulas": found.formulas,
        "formula_kinds": list(found.kinds.items()),
        "language": found.language,
        "bytes": len(encoded),
        "tokens": token_estimate(len(encoded)),
        "digest": hashlib.blake2b(encoded, digest_size=16).digest(),
        "minhash": minhash(text, dedup).tobytes(),
        "reason": "",
        "detail": "",
    }


@dataclass(frozen=True)
class Pages:
    """The kept pages of a crawl without their texts, which stay on disk. All sequences are indexed by page position."""

    shards: list[Path]
    first: NDArray[np.int64]
    """Position of each shard's first page, and the number of pages at the end: shape (shards + 1,)."""
    url: list[str]
    canonical_url: list[str]
    host: list[str]
    domain: list[str]
    path: list[str]
    title: list[str]
    digest: list[bytes]
    formulas: NDArray[np.int32]
    tokens: NDArray[np.int32]

    @classmethod
    def load(cls, shards: Sequence[Path]) -> Pages:
        """Read the index of all shards. Raises `MathQuarryError` when no page of the crawl has text."""
        tables = [pq.read_table(shard, columns=_INDEX_COLUMNS, filters=[("reason", "==", "")]) for shard in shards]
        table = pa.concat_tables(tables)
        if not table.num_rows:
            raise MathQuarryError(
                "no page of the crawl has text to mine: every record was dropped. "
                "Check that the crawl's WARC files hold HTML responses, and min_characters and max_page_bytes of the mine section."
            )
        lists = {name: table[name].to_pylist() for name in ("url", "canonical_url", "host", "domain", "path", "title", "digest")}
        numbers = {name: table[name].to_numpy() for name in ("formulas", "tokens")}
        return cls(list(shards), np.cumsum([0, *(part.num_rows for part in tables)]), **lists, **numbers)

    def __len__(self) -> int:
        return len(self.url)

    def signatures(self) -> Signatures:
        """MinHash signatures, shape (pages, bands * rows)."""
        columns = [pq.read_table(shard, columns=["minhash"], filters=[("reason", "==", "")])["minhash"] for shard in self.shards]
        joined = b"".join(value for column in columns for value in column.to_pylist())
        return np.frombuffer(joined, dtype=np.uint32).reshape(len(self), -1)

    def rows_of(self, shard: int, mask: Mask) -> Mask:
        """The part of a page mask that belongs to one shard."""
        return mask[self.first[shard] : self.first[shard + 1]]


def iter_kept(shard: Path, rows: Mask, columns: Sequence[str] = ("text",)) -> Iterator[pa.RecordBatch]:
    """Stream the kept pages of a shard for which `rows` is true, in order, in batches of at most 512; `rows` has an entry a kept page."""
    start = 0
    for batch in pq.ParquetFile(shard).iter_batches(batch_size=_BATCH, columns=[*columns, "reason"]):
        kept = batch.filter(pc.equal(batch["reason"], ""))
        wanted = rows[start : start + kept.num_rows]
        start += kept.num_rows
        if wanted.any():
            yield kept.filter(pa.array(wanted)).select(list(columns))


def iter_texts(shard: Path, rows: Mask) -> Iterator[list[str]]:
    """Texts of the pages that `iter_kept` streams, a list a batch."""
    for batch in iter_kept(shard, rows):
        yield batch["text"].to_pylist()


def dropped_records(shards: Sequence[Path]) -> pa.Table:
    """Columns url, reason and detail of everything that extraction dropped, in the crawl's order."""
    columns = ["url", "reason", "detail"]
    return pa.concat_tables([pq.read_table(shard, columns=columns, filters=[("reason", "!=", "")]) for shard in shards])
