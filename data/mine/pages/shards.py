"""Turns WARC files into pages with text: one Parquet shard per WARC file, made by many workers, and reused after a kill.

The first pass sees every page and writes *captures*. With `recall.enabled` their text is plain, and a second pass carefully
extracts the ones that a round picks. Without it, the first pass is careful and its captures are the pages.

A shard contains everything from its WARC file in the file's order: numbered captures with text, and dropped ones with the
reason and no text. A capture's number is shard << 32 | row among the shard's captures, in both passes.
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

from mathquarry.data.crawl.urls import Address, parse_address, url_key
from mathquarry.data.crawl.warc import Dropped, Page, read_pages, read_pages_at
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.extract.html import Extracted
from mathquarry.data.extract.limited import ExtractionStopped, Extractor
from mathquarry.data.files import atomic_path, read_json
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.signatures import minhash

Mask = NDArray[np.bool_]
Captures = NDArray[np.int64]

FORMULA_KINDS = pa.list_(pa.struct([("kind", pa.string()), ("count", pa.int32())]))
"""Formulas by encoding. A list, since `datasets` cannot load Arrow maps."""
_BATCH = 512
_SHARD_BITS = 32
_SCHEMA = pa.schema(
    [
        ("capture", pa.int64()),
        ("key", pa.uint64()),
        ("url", pa.string()),
        ("canonical_url", pa.string()),
        ("host", pa.string()),
        ("domain", pa.string()),
        ("path", pa.string()),
        ("title", pa.string()),
        ("text", pa.large_string()),
        ("formulas", pa.int32()),
        ("formula_kinds", FORMULA_KINDS),
        ("language", pa.string()),
        ("bytes", pa.int64()),
        ("tokens", pa.int32()),
        ("warc", pa.string()),
        ("offset", pa.int64()),
        ("digest", pa.binary(16)),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
# Signs of mathematics in HTML; a plain pass counts these if the seed is chosen by formulas.
_MARKUP = ("<math", "<mml:math", "math/tex", 'class="katex', 'class="tex"', "mwe-math", "math-container", "latex.php", "\\(", "\\[", "$$")


def token_estimate(text_bytes: int) -> int:
    """Estimated tokens of a text of this many UTF-8 bytes, at four bytes per token, for budgets. A tokenizer gives exact counts."""
    return max(1, text_bytes // 4)


def capture_shards(captures: Captures) -> Captures:
    """The shard number of each capture."""
    return captures >> _SHARD_BITS


def capture_rows(captures: Captures) -> Captures:
    """The row of each capture among its shard's captures."""
    return captures & ((1 << _SHARD_BITS) - 1)


class WarcFile(NamedTuple):
    """One WARC file of a crawl artifact."""

    name: str
    """The name in the artifact's list. It does not depend on the artifact's location, so outputs may contain it."""
    path: str
    """Absolute path or URL."""


def warc_files(crawl: Path) -> list[WarcFile]:
    """The WARC files of a crawl artifact, in its order. Raises `MathQuarryError` when it lists none."""
    listing = crawl / "warcs.json"
    entries = read_json(listing).get("files", [])
    if not entries:
        raise MathQuarryError(f"{listing} lists no WARC files; check `source` of the crawl section.")
    paths = [(entry.get("name", entry["path"]), entry["path"]) for entry in entries]
    return [WarcFile(name, path if "://" in path else str(crawl / path)) for name, path in paths]


def capture_crawl(files: Sequence[WarcFile], folder: Path, config: MineConfig, pool: WorkerPool) -> list[Path]:
    """The first pass: turn every WARC file into a shard in `folder`, keeping existing ones. Returns them in the order of `files`."""
    shards = [folder / f"{number:06d}.parquet" for number in range(len(files))]
    jobs = [(file, number, shard, config) for number, (file, shard) in enumerate(zip(files, shards, strict=True)) if not shard.exists()]
    pool.run("read pages" if config.recall.enabled else "extract pages", "WARC", capture_warc, jobs)
    return shards


def capture_warc(file: WarcFile, number: int, shard: Path, config: MineConfig) -> None:
    """Read one WARC file and write its shard, atomically and in bounded memory, with MinHash signatures beside it (see `signatures`)."""
    with Extractor(config.page_seconds, round(config.page_memory_gib * 2**30), careful=not config.recall.enabled) as extractor:
        _write_shard(shard, _captured(file, number, config, extractor), config)


def _captured(file: WarcFile, number: int, config: MineConfig, extractor: Extractor) -> Iterator[dict]:
    count_markup = config.recall.enabled and config.seed_pages.source == "crawl-formulas"
    row = 0
    for page in read_pages(file.path, config.max_page_bytes):
        found = _extracted(page, file, config, extractor)
        if not found["reason"]:
            found["capture"] = number << _SHARD_BITS | row
            row += 1
            if count_markup and isinstance(page, Page):
                found["formulas"] = sum(page.html.count(sign) for sign in _MARKUP)
        yield found


def extract_picks(file: WarcFile, captured: Path, picks: Captures, shard: Path, config: MineConfig) -> None:
    """The second pass over one WARC file: carefully extract the captures `picks` (sorted) and write all as a shard, dropped ones too."""
    table = pq.read_table(captured, columns=["offset", "url"], filters=[("reason", "==", "")]).take(pa.array(capture_rows(picks)))
    places = list(zip(table["offset"].to_pylist(), table["url"].to_pylist(), strict=True))
    pages = read_pages_at(file.path, places, config.max_page_bytes)
    with Extractor(config.page_seconds, round(config.page_memory_gib * 2**30)) as extractor:
        rows = (
            {"capture": capture} | _extracted(page, file, config, extractor) for capture, page in zip(picks.tolist(), pages, strict=True)
        )
        _write_shard(shard, rows, config)


def _write_shard(shard: Path, rows: Iterator[dict], config: MineConfig) -> None:
    """Write rows in batches, and the signatures of those with text beside the shard. The shard comes last and only when complete."""
    with (
        atomic_path(shard) as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer,
        atomic_path(_signature_file(shard)) as hashes,
        hashes.open("wb") as signatures_out,
    ):
        waiting: list[dict] = []
        for row in rows:
            if not row["reason"]:
                signatures_out.write(minhash(row["text"], config.dedup).tobytes())
            waiting.append(row)
            if len(waiting) == _BATCH:
                writer.write_table(pa.Table.from_pylist(waiting, schema=_SCHEMA))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema=_SCHEMA))


def _extracted(page: Page | Dropped, file: WarcFile, config: MineConfig, extractor: Extractor) -> dict:
    """A row without its capture number; `reason` is empty if the page has text."""
    if isinstance(page, Dropped):
        detail = page.detail.replace(file.path, file.name)
        if page.reason in ("broken-warc", "no-warc") and file.name not in detail:
            detail = f"{file.name}: {detail}"
        return {"url": page.url, "warc": file.name, "reason": page.reason, "detail": detail}
    where = {"url": page.url, "warc": file.name, "offset": page.offset}
    address = parse_address(page.url)
    if address is None:
        return where | {"reason": "bad-url", "detail": "not an http(s) address with a host"}
    try:
        found = extractor.extract(page.html)
    except ExtractionStopped as stop:
        return where | {"reason": "extraction-stopped", "detail": str(stop)}
    text = found.text.strip()
    least = config.min_characters if extractor.careful else 1
    if not text:
        return where | {"reason": "no-text", "detail": "no text in the page's main content"}
    if len(text) < least:
        return where | {"reason": "too-short", "detail": f"{len(text)} characters of text, fewer than {least}"}
    return where | _kept_row(address, text, found)


def _kept_row(address: Address, text: str, found: Extracted) -> dict:
    encoded = text.encode("utf-8", "replace")
    return {
        "key": url_key(address.canonical),
        "canonical_url": address.canonical,
        "host": address.host,
        "domain": address.domain,
        "path": address.path,
        "title": found.title,
        "text": encoded.decode(),  # lone surrogates cannot be stored
        "formulas": found.formulas,
        "formula_kinds": [{"kind": kind, "count": count} for kind, count in found.kinds.items()],
        "language": found.language,
        "bytes": len(encoded),
        "tokens": token_estimate(len(encoded)),
        "digest": hashlib.blake2b(encoded, digest_size=16).digest(),
        "reason": "",
        "detail": "",
    }


def _signature_file(shard: Path) -> Path:
    return shard.with_suffix(".minhash")


def signatures(shard: Path, functions: int) -> NDArray[np.uint32]:
    """MinHash signatures of a shard's captures, memory-mapped: shape (captures, functions)."""
    file = _signature_file(shard)
    if not file.stat().st_size:
        return np.empty((0, functions), dtype=np.uint32)
    return np.memmap(file, dtype="<u4", mode="r").reshape(-1, functions)


@dataclass(frozen=True)
class Pages:
    """The pages with careful text: 24 bytes each in memory; texts and addresses stay on disk. Arrays are indexed by page position.

    Shards are only added at the end, so positions never change.
    """

    shards: list[Path]
    first: NDArray[np.int64]
    """Position of each shard's first page, and the number of pages at the end: shape (shards + 1,)."""
    capture: Captures
    key: NDArray[np.uint64]
    """Hash of the canonical URL, to order pages independently of the crawl's order, and to draw samples."""
    formulas: NDArray[np.int32]
    tokens: NDArray[np.int32]

    @classmethod
    def load(cls, shards: Sequence[Path]) -> Pages:
        """Read the index of all shards."""
        names = ["capture", "key", "formulas", "tokens"]
        schema = pa.schema([_SCHEMA.field(name) for name in names])
        tables = [pq.read_table(shard, columns=names, filters=[("reason", "==", "")]) for shard in shards]
        table = pa.concat_tables([schema.empty_table(), *tables])
        return cls(list(shards), np.cumsum([0, *(part.num_rows for part in tables)]), *(table[name].to_numpy() for name in names))

    def __len__(self) -> int:
        return len(self.capture)

    def rows_of(self, shard: int, mask: Mask) -> Mask:
        """The part of a page mask that belongs to one shard."""
        return mask[self.first[shard] : self.first[shard + 1]]

    def among(self, captures: Captures) -> Mask:
        """Which pages are among `captures`."""
        return np.isin(self.capture, captures)


def iter_kept(shard: Path, rows: Mask, columns: Sequence[str] = ("text",)) -> Iterator[pa.RecordBatch]:
    """Stream the kept pages of a shard for which `rows` is true, in order, in batches of up to 512; `rows` has one entry per kept page."""
    start = 0
    for batch in pq.ParquetFile(shard).iter_batches(batch_size=_BATCH, columns=[*columns, "reason"]):
        kept = batch.filter(pc.equal(batch["reason"], ""))
        wanted = rows[start : start + kept.num_rows]
        start += kept.num_rows
        if wanted.any():
            yield kept.filter(pa.array(wanted)).select(list(columns))


def iter_texts(shard: Path, rows: Mask) -> Iterator[list[str]]:
    """Texts of the pages that `iter_kept` streams, one list per batch."""
    for batch in iter_kept(shard, rows):
        yield batch["text"].to_pylist()
