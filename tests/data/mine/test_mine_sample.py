"""The loop on real pages: from 100 mathematical pages it should find the others. Labels count formulas, and only measure."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mathquarry.data.mine.classify.classifier import Classifier
from mathquarry.data.mine.config import ClassifierConfig, MineConfig, RecallConfig, SeedConfig, WorkersConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.store.workspace import Workspace


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    ranked = positive[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def test_average_precision_of_a_hand_worked_ranking() -> None:
    # Right, wrong, right: (1/1 + 2/3) / 2.
    assert average_precision(np.asarray([0.9, 0.8, 0.7]), np.asarray([True, False, True])) == pytest.approx(5 / 6)


@pytest.mark.slow
def test_from_a_hundred_pages_the_loop_finds_the_mathematics_of_a_real_crawl(shared_data: Path, problems: Path, tmp_path: Path) -> None:
    warc, labelled = shared_data / "web" / "sample.warc.gz", shared_data / "web" / "labels.jsonl.gz"
    with gzip.open(labelled, "rt", encoding="utf-8") as file:
        labels = {record["url"]: record["label"] for record in map(json.loads, file)}
    seeds = random.Random(0).sample(sorted(url for url, label in labels.items() if label == "math"), 100)
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / "warcs.json").write_text(json.dumps({"files": [{"path": str(warc)}]}))
    (tmp_path / "seed.jsonl").write_text("".join(json.dumps({"text": "", "url": url}) + "\n" for url in seeds))
    config = MineConfig(
        seed_pages=SeedConfig(source="file-urls", path=str(tmp_path / "seed.jsonl"), positives=100, negatives=300),
        classifier=ClassifierConfig(dim=16, word_ngrams=2, learning_rate=0.3, epochs=20, buckets=200_000),
        recall=RecallConfig(enabled=False),
        token_budgets=[1_000_000, 1_350_000, 1_690_000],  # at the end the size of the true set
        max_rounds=6,
        workers=WorkersConfig(count=1, partitions=1),
    )
    workspace = Workspace.at(tmp_path / "run")
    mine(config, tmp_path / "crawl", problems, workspace)
    reasons = {row["url"]: row["reason"] for row in pq.read_table(workspace.out / "dropped.parquet").to_pylist()}
    shard = workspace.scratch / "captures" / "000000.parquet"
    pages = pq.read_table(shard, columns=["url", "text"], filters=[("reason", "==", "")]).to_pylist()
    pages_scored = [page for page in pages if not reasons.get(page["url"], "").endswith("duplicate") and page["url"] not in seeds]
    pages_scored = [page for page in pages_scored if labels[page["url"]] != "math_plain"]
    scores = Classifier(workspace.out / "classifier.bin").score([page["text"] for page in pages_scored])
    # 0.969 seen; beyond it stand pages that are mathematics for any reader and have no formulas.
    assert average_precision(scores, np.asarray([labels[page["url"]] == "math" for page in pages_scored])) >= 0.96
    collected = set(pq.read_table(workspace.out / "corpus", columns=["url"])["url"].to_pylist())
    reachable = {url for url, label in labels.items() if label == "math" and reasons.get(url, "low-score") == "low-score"}
    assert len(reachable) >= 350
    assert len(reachable & collected) / len(reachable) >= 0.95
