import bz2
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.classify.seed_texts import SeedText, sample_texts
from mathquarry.data.mine.config import SeedConfig
from tests.data.crawl.http_server import running_server

TEXTS = [SeedText(f"text {number} – ∑", f"https://x.org/{number}") for number in range(50)]


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def gzipped_in_two(data: bytes) -> bytes:
    half = data.index(b"\n", len(data) // 2) + 1
    return gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0)


def lines(texts: list[SeedText]) -> bytes:
    return "".join(json.dumps(text._asdict(), ensure_ascii=False) + "\n\n" for text in texts).encode()


def write_parquet(path: Path, texts: list[SeedText], **renamed: str) -> None:
    table = pa.Table.from_pylist([text._asdict() | {"other": 1} for text in texts])
    pq.write_table(table.rename_columns([renamed.get(name, name) for name in table.column_names]), path, row_group_size=7)


def taken(path: object, count: int = 1000, seed: int = 0, **settings: object) -> list[SeedText]:
    return list(sample_texts(SeedConfig.model_validate({"path": str(path), "positives": count} | settings), seed))


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.gz", gzipped_in_two),
        ("a.jsonl.zst", zstd),
        ("a.json.bz2", bz2.compress),
    ],
)
def test_lines_of_json_are_read_however_packed(name: str, pack, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / name).write_bytes(pack(lines(TEXTS)))
    assert taken(tmp_path / name) == TEXTS


def test_globs_of_parquet_with_columns_of_any_name_are_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a-0.parquet", TEXTS[:20], text="body", url="address")
    write_parquet(tmp_path / "a-1.parquet", TEXTS[20:], text="body", url="address")
    assert taken(tmp_path / "a-*.parquet", text_column="body", url_column="address") == TEXTS
    assert taken(tmp_path / "a-*.parquet", text_column="body") == [SeedText(text.text, "") for text in TEXTS]


def test_files_behind_http_are_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", TEXTS)
    with running_server() as server:
        server.files |= {"/a.parquet": (tmp_path / "a.parquet").read_bytes(), "/a.jsonl.zst": zstd(lines(TEXTS))}
        assert taken(f"{server.url}/a.parquet") == TEXTS
        assert taken(f"{server.url}/a.jsonl.zst") == TEXTS


def test_a_sample_is_decided_by_the_seed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", TEXTS)
    sample = taken(tmp_path / "a.parquet", 10)
    assert len(set(sample)) == 10
    assert set(sample) < set(TEXTS)
    assert sample == taken(tmp_path / "a.parquet", 10)
    assert sample != taken(tmp_path / "a.parquet", 10, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_is_loaded_by_name_config_and_split(streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that loads from the hub, on a data set in a folder: the library accepts both."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_parquet(folder / "train-0.parquet", TEXTS[:20], text="body")
    write_parquet(folder / "train-1.parquet", TEXTS[20:40], text="body")
    write_parquet(folder / "test-0.parquet", TEXTS[40:], text="body")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: maths\n  data_files:\n  - split: train\n    path: train-*.parquet\n"
        "  - split: test\n    path: test-*.parquet\n---\n"
    )
    settings = {"text_column": "body", "streaming": streaming}
    assert sorted(taken(f"hf://{folder}", **settings)) == sorted(TEXTS[:40])
    assert sorted(taken(f"hf://{folder}:maths:test", **settings)) == sorted(TEXTS[40:])
    sample = taken(f"hf://{folder}:maths", 10, **settings)
    assert len(set(sample)) == 10
    assert sample == taken(f"hf://{folder}:maths", 10, **settings)
    assert sample != taken(f"hf://{folder}:maths", 10, seed=1, **settings)
    with pytest.raises(MathQuarryError, match="no `text` column"):
        taken(f"hf://{folder}", streaming=streaming)
    for wrong in (f"hf://{folder}:physics", f"hf://{folder}:maths:validation", f"hf://{tmp_path}/nowhere"):
        with pytest.raises(MathQuarryError, match=f"{wrong} cannot be loaded"):
            taken(wrong, **settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"{", "cannot be read"),
        ("a.jsonl", b'{"body": "x"}\n', "record 1 has no `text` column"),
        ("a.jsonl", b'{"text": 5}\n', "record 1 has no `text` column"),
        ("a.jsonl", b"[1]\n", "record 1 has no `text` column"),
        ("a.jsonl", b'{"text": "\xff"}\n', "cannot be read"),
        ("a.jsonl.gz", b"no gzip", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(lines(TEXTS), mtime=0)[:-300], "cannot be read"),
        ("a.jsonl.zst", b"no zstd", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_bad_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MathQuarryError, match=message) as error:
        taken(tmp_path / name)
    assert name in str(error.value)


def test_an_empty_file_gives_nothing_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    assert taken(tmp_path / "a.jsonl") == []
    with pytest.raises(MathQuarryError, match="absent.jsonl does not exist"):
        taken(tmp_path / "absent.jsonl")
