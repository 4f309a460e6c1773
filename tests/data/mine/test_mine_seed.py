import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.classify.seed import Candidates, Seed, first_seed, with_negatives
from mathquarry.data.mine.config import MineConfig, RecallConfig, SeedConfig, SeparationConfig, WorkersConfig
from mathquarry.data.mine.library.library import Library, read_crawl
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import Captures, warc_files
from mathquarry.data.store.workspace import Progress
from tests.data.mine.conftest import OTHER_WORDS, html_page, prose

COUNT = 20
NOTHING = np.empty(0, dtype=np.int64)
ADDRESSES = [f"x.org/{number:02d}" for number in range(COUNT)]
FORMULAS = [0, 5, 5, 9] + [0] * 16


@pytest.fixture
def library(write_crawl, tmp_path: Path, problems: Path) -> Iterator[Library]:
    """Twenty pages, three of them with formulas."""
    pages = [
        (f"http://{address}", html_page("Page", prose(OTHER_WORDS, number), formulas))
        for number, (address, formulas) in enumerate(zip(ADDRESSES, FORMULAS, strict=True))
    ]
    config = MineConfig(recall=RecallConfig(enabled=False), workers=WorkersConfig(count=1, partitions=1))
    with WorkerPool(config.workers, Progress()) as workers:
        yield read_crawl(warc_files(write_crawl(pages)), problems, config, tmp_path / "library", workers)


def seed_of(library: Library, folder: Path, **settings) -> Seed:
    folder.mkdir(exist_ok=True)
    return first_seed(library, library.config.model_copy(update={"seed_pages": SeedConfig(**settings)}), folder)[0]


def addresses(library: Library, captures: Captures) -> set[str]:
    return {url.removeprefix("http://") for url in library.urls(captures.tolist()).values()}


def test_pages_with_the_most_formulas_are_positive_and_random_others_negative(library: Library, tmp_path: Path) -> None:
    seed = seed_of(library, tmp_path, source="crawl-formulas", positives=2, negatives=10)
    assert ADDRESSES[3] in addresses(library, seed.positives) < set(ADDRESSES[1:4])
    assert seed.counts == (2, 10)
    assert not set(seed.positives.tolist()) & set(seed.negatives.tolist())


def test_a_negative_that_becomes_positive_is_replaced_and_the_others_stay(library: Library, tmp_path: Path) -> None:
    config = library.config.model_copy(update={"seed_pages": SeedConfig(source="crawl-formulas", positives=2, negatives=10)})
    seed, candidates = first_seed(library, config, tmp_path)
    grown = with_negatives(library, candidates, np.union1d(seed.positives, seed.negatives[:3]), NOTHING, config, None)
    assert grown.counts == (5, 10)
    assert len(set(grown.negatives.tolist()) & set(seed.negatives.tolist())) == 7


@pytest.mark.parametrize(
    ("limits", "negatives", "limit"),
    [
        ({}, 10, "most_of_crawl"),
        ({"most_of_crawl": 0.25}, 5, "most_of_crawl"),
        ({"most_of_crawl": 1.0, "negatives_per_positive": 3}, 6, "negatives_per_positive"),
        ({"negatives": 4}, 4, None),
    ],
)
def test_negatives_are_capped_by_the_crawl_and_by_the_positives(
    limits: dict, negatives: int, limit: str | None, library: Library, tmp_path: Path
) -> None:
    seed = seed_of(library, tmp_path, source="crawl-formulas", positives=2, **limits)
    assert (seed.counts, seed.limit) == ((2, negatives), limit)


def test_a_class_of_fifty_is_the_least_that_is_held_out_and_the_papers_loses_five_thousand() -> None:
    captures = np.arange(600_000, dtype=np.int64)

    def held_out(positives: int, negatives: int, outside: int = 0) -> tuple[int, int]:
        seed = Seed(captures[:positives], captures[100_000 : 100_000 + negatives], None, outside)
        return seed.hold_out(SeparationConfig(), seed=0).counts

    assert held_out(49, 500_000) == held_out(500, 49) == (0, 0)
    assert held_out(50, 120) == (10, 20)
    assert held_out(20, 60, outside=30) == (10, 12)
    assert held_out(300, 1_000) == (30, 100)
    assert held_out(0, 500_000, outside=500_000) == (5_000, 5_000)


def test_what_is_held_out_is_not_trained_on_and_the_rest_is(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "seed.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {number}", "url": ""}) + "\n" for number in range(12)))
    seed = seed_of(library, tmp_path / "scratch", path=str(path), positives=12, negatives=10)
    grown = Seed(np.setdiff1d(library.pages.capture, seed.negatives)[:5], seed.negatives, seed.outside, seed.outside_count)
    held_out = grown.hold_out(SeparationConfig(held_out=0.5, least_pages=2), seed=0)
    kept, left_out, everything = (
        sorted(examples)
        for examples in (grown.examples(library, held_out), grown.held_out_examples(library, held_out), grown.examples(library))
    )
    assert len(left_out) == sum(held_out.counts) == 13
    assert sorted(kept + left_out) == everything
    assert {text for text, _ in kept}.isdisjoint(text for text, _ in left_out)


def test_what_a_round_collected_is_no_negative_of_the_next(library: Library, tmp_path: Path) -> None:
    config = library.config.model_copy(update={"seed_pages": SeedConfig(source="crawl-formulas", positives=2, negatives=10)})
    seed, candidates = first_seed(library, config, tmp_path)
    collected = seed.negatives[:4]
    grown = with_negatives(library, candidates, seed.positives, collected, config, None)
    assert not set(grown.negatives.tolist()) & set(collected.tolist())
    assert len(set(grown.negatives.tolist()) & set(seed.negatives.tolist())) == 6


def test_the_crawls_own_pages_at_the_seeds_addresses_are_positive(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "seed.jsonl"
    records = [{"text": "another extraction", "url": f"https://x.org/{number:02d}#top"} for number in (4, 7, 40)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    seed = seed_of(library, tmp_path / "scratch", source="file-urls", path=str(path), positives=10, negatives=5)
    assert addresses(library, seed.positives) == {"x.org/04", "x.org/07"}
    assert seed.counts == (2, 5)
    texts = [text for text, positive in seed.examples(library) if positive]
    assert len(texts) == 2
    assert "another extraction" not in texts
    path.write_text(json.dumps(records[2]) + "\n")
    with pytest.raises(MathQuarryError, match="has none of the pages"):
        seed_of(library, tmp_path / "other", source="file-urls", path=str(path))


@pytest.mark.parametrize("kind", ["seed.jsonl", "seed.jsonl.gz", "seed.parquet"])
def test_seed_files_are_sampled_without_loading_them_and_their_pages_are_no_negatives(kind: str, library: Library, tmp_path: Path) -> None:
    records = [{"text": f"text {number}", "url": f"https://x.org/{number:02d}/"} for number in range(15)]
    path = tmp_path / kind
    if kind.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        content = "".join(json.dumps(record) + "\n" for record in records).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    seed = seed_of(library, tmp_path / "scratch", path=str(path), positives=12, negatives=500)
    assert seed.outside is not None
    known = pq.read_table(seed.outside).to_pylist()
    assert len({record["text"] for record in known}) == 12
    assert seed.counts == (12, COUNT - 12)
    assert addresses(library, seed.negatives).isdisjoint(record["canonical_url"] for record in known)
    again = seed_of(library, tmp_path / "again", path=str(path), positives=12, negatives=500)
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
def test_bad_seed_files_are_named(name: str, content: str, message: str, library: Library, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(MathQuarryError, match=message) as error:
        seed_of(library, tmp_path / "scratch", path=str(tmp_path / name))
    assert name in str(error.value)


def test_a_seed_without_negatives_is_refused(library: Library) -> None:
    with pytest.raises(MathQuarryError, match="negative examples"):
        with_negatives(
            library, Candidates(library.pages.capture, library.pages.capture, COUNT), library.pages.capture, NOTHING, library.config, None
        )
