"""Reading text sources: the hub's way, files, globs, a corpus at a budget, generated texts."""

from __future__ import annotations

import gzip
import json
from itertools import islice, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.texts.documents import read_documents
from mathquarry.data.texts.generated import generated_texts


def test_a_data_set_is_streamed(tmp_path: Path) -> None:
    """Read from a local folder; a name on the hub is read in the same way."""
    folder = tmp_path / "algebraic-stack"
    folder.mkdir()
    pq.write_table(pa.table({"text": [f"theorem {i}" for i in range(30)], "meta": list(range(30))}), folder / "train-0.parquet")
    assert sorted(read_documents(f"hf://{folder}", 0)) == sorted(f"theorem {i}" for i in range(30))
    with pytest.raises(MathQuarryError, match="cannot read hf://.*validation"):
        list(read_documents(f"hf://{folder}::validation", 0))


def test_files_of_a_data_set_are_read_through_the_hubs_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """As data sets with a loading script must be: `load_dataset` refuses those."""
    hub = MemoryFileSystem()
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (hub, "/" + url.removeprefix("hf://")))
    lines = "".join(json.dumps({"content": f"print({i})"}) + "\n" for i in range(20))
    with hub.open("/datasets/owner/code/train/0.jsonl.zst", "wb") as file:
        file.write(zstandard.compress(lines.encode()))
    found = read_documents("hf://datasets/owner/code/train/*.jsonl.zst", 0, column="content")
    assert sorted(found) == sorted(f"print({i})" for i in range(20))


def test_a_damaged_compressed_source_is_named(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(json.dumps({"text": f"{i} {i * i}"}).encode() + b"\n" for i in range(400)))
    (tmp_path / "bad.jsonl.gz").write_bytes(data[:400] + b"damaged" + data[407:])
    with pytest.raises(MathQuarryError, match=r"bad\.jsonl\.gz"):
        list(read_documents(str(tmp_path / "bad.jsonl.gz"), 0))
    (tmp_path / "bad.jsonl.zst").write_bytes(b"no zstd at all")
    with pytest.raises(MathQuarryError, match=r"bad\.jsonl\.zst"):
        list(read_documents(str(tmp_path / "bad.jsonl.zst"), 0))


def test_documents_are_shuffled_over_files_and_the_order_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mathquarry.data.texts.documents.SHUFFLE_BUFFER", 30)
    for number in range(3):
        with gzip.open(tmp_path / f"{number}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps({"text": f"{number}-{i}"}) + "\n" for i in range(40))
    path = str(tmp_path / "*.jsonl.gz")
    order = list(read_documents(path, 4))
    assert sorted(order) == sorted(f"{number}-{i}" for number in range(3) for i in range(40))
    assert sum(one[0] != other[0] for one, other in pairwise(order)) > 10
    assert list(read_documents(path, 4, skip=50)) == order[50:]
    assert list(read_documents(path, 5)) != order


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="nothing-here"):
        list(read_documents(str(tmp_path / "nothing-here*.jsonl"), 0))
    (tmp_path / "other.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(MathQuarryError, match="not a JSON object with a field `text`"):
        list(read_documents(str(tmp_path / "other.jsonl"), 0))
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(MathQuarryError, match="no column `text`, only body"):
        list(read_documents(str(tmp_path / "other.parquet"), 0))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "other.parquet").read_bytes()[:100])
    with pytest.raises(MathQuarryError, match=r"cannot read .*cut\.parquet"):
        list(read_documents(str(tmp_path / "cut.parquet"), 0))
    (tmp_path / "bad.jsonl").write_text("not json\n")
    with pytest.raises(MathQuarryError, match=r"bad\.jsonl, line 1"):
        list(read_documents(str(tmp_path / "bad.jsonl"), 0))


def test_a_corpus_at_a_budget_is_its_best_documents(tmp_path: Path) -> None:
    for part, scores in enumerate(([0.9, 0.1, 0.5], [0.7, 0.5, 0.2])):
        texts = [f"{score}/{part}" for score in scores]
        pq.write_table(
            pa.table({"text": texts, "score": pa.array(scores, pa.float32()), "tokens": [10, 20, 30]}), tmp_path / f"{part}.parquet"
        )
    path = str(tmp_path / "*.parquet")

    def best(tokens: int) -> set[str]:
        return set(read_documents(path, 0, best_tokens=tokens))

    assert best(1) == {"0.9/0"}
    assert best(20) == {"0.9/0", "0.7/1"}
    # Of two with the same score both are read, although the budget pays for one.
    assert best(50) == {"0.9/0", "0.7/1", "0.5/0", "0.5/1"}
    assert best(10**9) == set(read_documents(path, 0))
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "plain" / "a.parquet")
    with pytest.raises(MathQuarryError, match=r"best_tokens needs the columns `score` and `tokens`.*a\.parquet"):
        list(read_documents(str(tmp_path / "plain" / "a.parquet"), 0, best_tokens=5))


@pytest.mark.parametrize(("kind", "typical"), [("general", "{"), ("mathematics", "$"), ("code", "print("), ("papers", "theorem")])
def test_generated_texts_repeat_and_differ_by_seed(kind: str, typical: str) -> None:
    texts = list(generated_texts(kind, 3, 30))
    assert texts == list(generated_texts(kind, 3, 30))
    assert set(texts).isdisjoint(generated_texts(kind, 4, 30))
    assert any(typical in text for text in texts) == (kind != "general")
    assert set(islice(read_documents(f"generated:{kind}:3", 0), 10)) <= set(generated_texts(kind, 3))


def test_generated_code_runs_and_says_what_it_prints() -> None:
    for text in generated_texts("code", 0, 40):
        printed: list[int] = []
        exec(compile(text, "generated", "exec"), {"print": printed.append})
        assert printed or "assert" in text


def test_generated_texts_of_unknown_kind_are_refused() -> None:
    with pytest.raises(MathQuarryError, match="no generated texts of kind 'poems'. Known kinds: general, mathematics, code, papers"):
        list(read_documents("generated:poems", 0))
    with pytest.raises(MathQuarryError, match="the seed is 'x', not a number"):
        list(read_documents("generated:code:x", 0))
