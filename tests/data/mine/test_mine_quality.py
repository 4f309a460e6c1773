import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.record.quality import measure


def row(url: str, label: str, **planted: str) -> dict[str, str | None]:
    return {"url": url, "label": label, "duplicate_of": None, "url_duplicate_of": None, "contaminated_by": None, "host": "h"} | planted


def test_counts_match_a_hand_worked_crawl(tmp_path: Path) -> None:
    truth = [
        row("m1", "math"),
        row("m2", "math"),
        row("m3", "math_plain"),
        row("o1", "other"),
        row("o2", "other"),
        row("n1", "math", duplicate_of="m1"),
        row("n2", "math_plain", duplicate_of="m2"),
        row("u1", "other", url_duplicate_of="o1"),
        row("c1", "math", contaminated_by="p1"),
        row("c2", "math", contaminated_by="p2"),
    ]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(record) + "\n" for record in truth))
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
