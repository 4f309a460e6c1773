import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import MathQuarryError
from data.mine.quality import measure


def test_counts_match_a_hand_worked_crawl(tmp_path: Path) -> None:
    truth = [
        {"url": "m1", "label": "math"},
        {"url": "m2", "label": "math"},
        {"url": "m3", "label": "math"},
        {"url": "o1", "label": "other"},
        {"url": "o2", "label": "other"},
        {"url": "n1", "label": "math", "planted": "near-duplicate", "of": "m1"},
        {"url": "n2", "label": "math", "planted": "near-duplicate", "of": "m2"},
        {"url": "u1", "label": "other", "planted": "url-duplicate", "of": "o1"},
        {"url": "c1", "label": "math", "planted": "contaminated"},
        {"url": "c2", "label": "math", "planted": "contaminated"},
    ]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in truth))
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"url": ["n1", "m2", "n2", "c2", "o2"]}), tmp_path / "corpus" / "part-0000.parquet")
    gone = {"m1": "near-duplicate", "m3": "low-score", "o1": "contaminated", "u1": "url-duplicate", "c1": "contaminated"}
    pq.write_table(pa.table({"url": list(gone), "reason": list(gone.values())}), tmp_path / "dropped.parquet")
    assert measure(tmp_path / "truth.jsonl", tmp_path / "corpus", tmp_path / "dropped.parquet") == {
        "planted_contaminated": 2,
        "removed_contaminated": 1,
        "contaminated_in_corpus": 1,
        "removed_unplanted_contaminated": 1,
        "planted_near_duplicates": 2,
        "removed_near_duplicates": 1,
        "planted_url_duplicates": 1,
        "removed_url_duplicates": 1,
        "math_precision": 4 / 5,
        "math_recall": 1 / 2,  # m2 of m2 and m3; m1 went as a duplicate
    }


def test_a_bad_truth_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.jsonl").write_text('{"url": "x"}\n')
    with pytest.raises(MathQuarryError, match=r"truth\.jsonl, line 1"):
        measure(tmp_path / "truth.jsonl", tmp_path, tmp_path)
