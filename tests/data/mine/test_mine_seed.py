import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.config import MineConfig, SeedConfig
from data.errors import MathQuarryError
from data.mine.seed import Seed, first_seed, with_negatives
from data.mine.shards import Pages

COUNT = 20
ADDRESSES = [f"x.org/{number:02d}" for number in range(COUNT)]
PAGES = Pages(
    [],
    np.asarray([0]),
    [f"http://{address}" for address in ADDRESSES],
    ADDRESSES,
    ["x.org"] * COUNT,
    ["x.org"] * COUNT,
    ["/"] * COUNT,
    [""] * COUNT,
    [b""] * COUNT,
    np.asarray([0, 5, 5, 9] + [0] * 16, dtype=np.int32),
    np.ones(COUNT, dtype=np.int32),
)
POOL = np.ones(COUNT, dtype=bool)


def seed_of(folder: Path, **settings) -> Seed:
    return first_seed(PAGES, POOL, MineConfig(seed_pages=SeedConfig(**settings)), folder)


def test_pages_with_the_most_formulas_are_positive_and_random_others_negative(tmp_path: Path) -> None:
    seed = seed_of(tmp_path, source="crawl-formulas", positives=2, negatives=10)
    assert np.flatnonzero(seed.positives).tolist() == [1, 3]
    assert seed.counts == (2, 10)
    assert not (seed.positives & seed.negatives).any()


def test_a_negative_that_becomes_positive_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    config = MineConfig(seed_pages=SeedConfig(source="crawl-formulas", positives=2, negatives=10))
    seed = first_seed(PAGES, POOL, config, tmp_path)
    promoted = np.flatnonzero(seed.negatives)[:3]
    positives = seed.positives.copy()
    positives[promoted] = True
    grown = with_negatives(PAGES, POOL, positives, config, None)
    assert grown.counts == (5, 10)
    assert (grown.negatives & seed.negatives).sum() == 7


@pytest.mark.parametrize("kind", ["seed.jsonl", "seed.jsonl.gz", "seed.parquet"])
def test_seed_files_are_sampled_without_loading_them_and_their_pages_are_no_negatives(kind: str, tmp_path: Path) -> None:
    records = [{"text": f"text {number}", "url": f"https://x.org/{number:02d}/"} for number in range(15)]
    path = tmp_path / kind
    if kind.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        content = "".join(json.dumps(record) + "\n" for record in records).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    seed = seed_of(tmp_path / "scratch", path=str(path), positives=12, negatives=500)
    assert seed.outside is not None
    known = pq.read_table(seed.outside).to_pylist()
    assert len({record["text"] for record in known}) == 12
    assert seed.counts == (12, COUNT - 12)
    assert {ADDRESSES[page] for page in np.flatnonzero(seed.negatives)}.isdisjoint(record["canonical_url"] for record in known)
    again = seed_of(tmp_path / "again", path=str(path), positives=12, negatives=500)
    assert again.outside is not None
    assert pq.read_table(again.outside).to_pylist() == known


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "holds no seed pages"),
        ("b.jsonl", "{", "cannot be read"),
        ("c.jsonl", '{"body": "x"}\n', "no `text` column"),
        ("d.parquet", "PAR", "cannot be read"),
    ],
)
def test_bad_seed_files_are_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(MathQuarryError, match=message) as error:
        seed_of(tmp_path / "scratch", path=str(tmp_path / name))
    assert name in str(error.value)


def test_a_seed_without_negatives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="negative examples"):
        with_negatives(PAGES, POOL, POOL, MineConfig(), None)
