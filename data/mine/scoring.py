"""Training a round's classifier on examples, and scoring shards with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.config import MineConfig
from data.errors import MathQuarryError
from data.mine import classifier
from data.mine.pool import WorkerPool
from data.mine.shards import Mask, Pages, iter_texts


def train_classifier(examples: Iterator[tuple[str, bool]], count: int, config: MineConfig, folder: Path, model: Path) -> None:
    """Train on about `count` (text, is positive) pairs and write the collapsed classifier; `folder` takes the passing files."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, full = folder / "examples.txt", folder / "full.bin"
    try:
        classifier.write_examples(lines, examples, count, config.seed)
        classifier.train(lines, full, config.classifier, config.seed)
        classifier.collapse(full, model)
    finally:
        # The full model takes 2 GB with the paper's settings and scores no differently.
        lines.unlink(missing_ok=True)
        full.unlink(missing_ok=True)


def score_pages(pages: Pages, pool: Mask, model: Path, workers: WorkerPool) -> NDArray[np.float32]:
    """Score every page of `pool`; others get 0. Shape (pages,). Raises `MathQuarryError` when a score is no number."""
    jobs = [(shard, pages.rows_of(number, pool), model) for number, shard in enumerate(pages.shards)]
    scores = np.zeros(len(pages), dtype=np.float32)
    scores[pool] = np.concatenate(workers.run("score pages", "shard", score_shard, jobs))
    return scores


def score_shard(shard: Path, rows: Mask, model: Path) -> NDArray[np.float32]:
    """Scores of one shard's pages for which `rows` is true."""
    scorer = load_classifier(model, model.stat().st_mtime_ns)
    scores = np.concatenate([np.empty(0, dtype=np.float32), *(scorer.score(texts) for texts in iter_texts(shard, rows))])
    if not np.isfinite(scores).all():
        raise MathQuarryError(f"the classifier gives scores that are no numbers; lower classifier.learning_rate ({model}).")
    return scores


@lru_cache(maxsize=1)
def load_classifier(model: Path, version: int) -> classifier.Classifier:
    """`version` tells a classifier that was trained anew from the one that lay at the same path before."""
    return classifier.Classifier(model)
