"""Keys for comparing captures: hashes of URL, text and MinHash bands, sorted, so that a range of keys is one job.

Equal captures have equal keys, so duplicates within a range of keys are found without the other ranges. Since a file is
sorted by key, a reader can skip everything outside its range.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from mathquarry.data.files import atomic_path
from mathquarry.data.mine.config import DedupConfig
from mathquarry.data.mine.pages.shards import signatures

KINDS = ("url", "text", "band")

_ROWS_A_GROUP = 50_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


def key_range(partition: int, partitions: int) -> tuple[int, int]:
    """The first and the last key (64 bits) of a partition."""
    return (2**64 * partition // partitions, 2**64 * (partition + 1) // partitions - 1)


def key_file(folder: Path, kind: str, number: int) -> Path:
    """Where `write_keys` puts the keys of one kind of shard `number`."""
    return folder / kind / f"{number:06d}.parquet"


def band_keys(hashes: NDArray[np.uint32], config: DedupConfig) -> NDArray[np.uint64]:
    """One key per band of each signature, shape (captures, bands); equal bands at the same position have equal keys.

    Unequal bands collide about once in 2**64 pairs. Candidates are verified, so a collision only costs time.
    """
    keys = np.broadcast_to(np.arange(1, config.bands + 1, dtype=np.uint64), (len(hashes), config.bands)).copy()
    bands = hashes.reshape(len(hashes), config.bands, config.rows)
    for row in range(config.rows):
        keys *= _MULTIPLIER
        keys ^= keys >> np.uint64(29)
        keys += bands[:, :, row]
    keys ^= keys >> np.uint64(33)
    keys *= _MIX
    keys ^= keys >> np.uint64(33)
    return keys


def write_keys(shard: Path, number: int, folder: Path, config: DedupConfig) -> None:
    """Write the keys of shard `number` to `folder`/{url,text,band}/, each sorted by key, unless they are there.

    Columns: key and capture; for URLs, the other 64 bits of the 128-bit hash; for texts, the other 64 bits of the digest, and
    the canonical URL; for bands, the position of the signature: number << 32 | row.
    """
    targets = {kind: key_file(folder, kind, number) for kind in KINDS}
    if all(target.exists() for target in targets.values()):
        return
    columns = ["capture", "canonical_url", "digest"]
    table = pq.read_table(shard, columns=columns, filters=[("reason", "==", "")])
    capture = table["capture"]
    addresses = b"".join(xxhash.xxh3_128_digest(url.encode("utf-8", "replace")) for url in table["canonical_url"].to_pylist())
    for kind, content in (("url", addresses), ("text", b"".join(table["digest"].to_pylist()))):
        halves = np.frombuffer(content, dtype="<u8").reshape(-1, 2)
        made = {"key": pa.array(halves[:, 0]), "rest": pa.array(halves[:, 1]), "capture": capture}
        _write_sorted(pa.table(made | ({"canonical_url": table["canonical_url"]} if kind == "text" else {})), targets[kind])
    keys = band_keys(signatures(shard, config.bands * config.rows), config)
    row = np.arange(len(keys), dtype=np.int64) | number << 32
    made = {"key": keys.ravel(), "capture": np.repeat(capture.to_numpy(), config.bands), "place": np.repeat(row, config.bands)}
    _write_sorted(pa.table(made), targets["band"])


def _write_sorted(table: pa.Table, path: Path) -> None:
    with atomic_path(path) as temporary:
        ordered = table.sort_by([("key", "ascending"), ("capture", "ascending")])
        pq.write_table(ordered, temporary, compression="zstd", row_group_size=_ROWS_A_GROUP)
