"""Trains a round's classifier on examples, and scores shards with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.mine.classify import classifier
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.pages.pool import WorkerPool
from mathquarry.data.mine.pages.shards import Mask, Pages, iter_texts


def train_classifier(examples: Iterator[tuple[str, bool]], count: int, config: MineConfig, folder: Path, model: Path) -> None:
    """Train on about `count` (text, is positive) pairs and write the collapsed classifier; `folder` holds temporary files."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, full = folder / "examples.txt", folder / "full.bin"
    try:
        classifier.write_examples(lines, examples, count, config.seed)
        classifier.train(lines, full, config.classifier, config.seed)
        classifier.collapse(full, model)
    finally:
        # The full model takes 2 GB with the paper's settings and gives the same scores.
        lines.unlink(missing_ok=True)
        full.unlink(missing_ok=True)


def score_pages(pages: Pages, pool: Mask, model: Path, workers: WorkerPool) -> NDArray[np.float32]:
    """Score every page of `pool`; others get 0. Shape (pages,). Raises `MathQuarryError` if a score is NaN or infinite."""
    jobs = [(shard, pages.rows_of(number, pool), model) for number, shard in enumerate(pages.shards)]
    scores = np.zeros(len(pages), dtype=np.float32)
    scores[pool] = np.concatenate(workers.run("score pages", "shard", score_shard, jobs))
    return scores


def score_shard(shard: Path, rows: Mask, model: Path) -> NDArray[np.float32]:
    """Scores of one shard's pages for which `rows` is true."""
    scorer = load_classifier(model, model.stat().st_mtime_ns)
    scores = np.concatenate([np.empty(0, dtype=np.float32), *(scorer.score(texts) for texts in iter_texts(shard, rows))])
    if not np.isfinite(scores).all():
        raise MathQuarryError(f"the classifier gives scores that are not numbers; lower classifier.learning_rate ({model}).")
    return scores


@lru_cache(maxsize=1)
def load_classifier(model: Path, version: int) -> classifier.Classifier:
    """Load a classifier once per process. `version` distinguishes a retrained classifier from an earlier one at the same path."""
    return classifier.Classifier(model)
