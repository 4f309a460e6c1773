"""The first of two passes: a classifier of plain text that passes everything that may be mathematics (our choice; the paper has one pass).

Careful extraction costs several times as much as plain text, and nearly all of a crawl is not mathematics. So each round
trains a first classifier on the plain text of its seed. Only pages that pass it are extracted carefully and scored by the
round's own classifier. Both classes of its examples went through the same extractor.

The threshold is the score that a share `recall.keep` of the held-out seed positives reaches. If the classifier does not
separate them from held-out negatives, nearly everything passes, and the round warns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mathquarry.data.files import atomic_path, read_json, write_json
from mathquarry.data.mine.classify.scoring import load_classifier, score_shard, train_classifier
from mathquarry.data.mine.classify.seed import Seed
from mathquarry.data.mine.classify.separation import Separation, separation
from mathquarry.data.mine.config import MineConfig
from mathquarry.data.mine.library.library import Library, draws
from mathquarry.data.mine.pages.shards import Captures, Mask, capture_rows, capture_shards, iter_texts

# The held-out examples are drawn with another seed than the examples themselves.
_HELD_OUT_DRAW = 0x4E1D


@dataclass(frozen=True)
class Recall:
    """The result of a first pass."""

    threshold: float
    held_out: int
    """Seed positives that set the threshold."""
    captures: int
    """Captures that were scored."""
    passed: int
    separation: Separation
    scores: list[Path]
    """Scores of each shard, as `.npy`: one per capture, 0 for duplicates."""

    def survivors(self, library: Library) -> Captures:
        """The captures that passed, sorted."""
        found = [np.empty(0, dtype=np.int64)]
        for number, file in enumerate(self.scores):
            capture = library.index(number, ["capture"])["capture"]
            found.append(capture[(np.load(file) >= self.threshold) & library.unique(capture)])
        return np.concatenate(found)


def recall(library: Library, seed: Seed, config: MineConfig, folder: Path) -> Recall:
    """Train on the seed's plain texts, score every capture, find the threshold. Finished files in `folder` are reused."""
    scores = [folder / f"{number:06d}.npy" for number in range(len(library.captured))]
    record = folder / "recall.json"
    if record.exists():
        known = read_json(record)
        return Recall(**known | {"separation": Separation(**known["separation"])}, scores=scores)
    model = folder / "classifier.bin"
    examples = _Examples(library, seed, config)
    if not model.exists():
        train_classifier(examples.training(), sum(seed.counts), config, folder, model)
    masks = [library.unique(library.index(number, ["capture"])["capture"]) for number in range(len(scores))]
    jobs = [(shard, mask, model, file) for shard, mask, file in zip(library.captured, masks, scores, strict=True) if not file.exists()]
    library.workers.run("first pass", "shard", score_captures, jobs)
    classifier = load_classifier(model, model.stat().st_mtime_ns)
    held_out, others = (classifier.score(list(examples.held_out(positive))) for positive in (True, False))
    # Without held-out positives, everything passes.
    threshold = float(np.quantile(held_out, 1 - config.recall.keep, method="lower")) if len(held_out) else 0.0
    passed = sum(int((np.load(file)[mask] >= threshold).sum()) for file, mask in zip(scores, masks, strict=True))
    positive = np.arange(len(held_out) + len(others)) < len(held_out)
    found = separation(np.concatenate([held_out, others]), positive, config.separation.least_pages)
    done = Recall(threshold, len(held_out), int(sum(mask.sum() for mask in masks)), passed, found, scores)
    write_json(record, {name: value for name, value in asdict(done).items() if name != "scores"})
    return done


def score_captures(shard: Path, rows: Mask, model: Path, result: Path) -> None:
    """Write the scores of a shard's captures as `.npy`: 0 where `rows` is false."""
    scores = np.zeros(len(rows), dtype=np.float32)
    scores[rows] = score_shard(shard, rows, model)
    with atomic_path(result) as temporary, temporary.open("wb") as file:
        np.save(file, scores)


class _Examples:
    """Plain texts of a seed; a share of them is held out of training."""

    def __init__(self, library: Library, seed: Seed, config: MineConfig) -> None:
        self._library, self._seed = library, seed
        self._share = config.recall.held_out
        self._draw = config.seed + _HELD_OUT_DRAW

    def training(self) -> Iterator[tuple[str, bool]]:
        """Stream (text, is positive)."""
        yield from ((text, True) for text, held in self._outside() if not held)
        for captures, positive in ((self._seed.positives, True), (self._seed.negatives, False)):
            yield from ((text, positive) for text, held in self._captured(captures) if not held)

    def held_out(self, positive: bool) -> Iterator[str]:
        """Stream the positives, or the negatives, that are not trained on."""
        if positive:
            yield from (text for text, held in self._outside() if held)
        yield from (text for text, held in self._captured(self._seed.positives if positive else self._seed.negatives) if held)

    def _is_held_out(self, keys: NDArray[np.uint64]) -> Mask:
        return draws(keys, self._draw) < np.uint64(self._share * 2**64)

    def _outside(self) -> Iterator[tuple[str, bool]]:
        held = self._is_held_out(np.arange(self._seed.outside_count, dtype=np.uint64)).tolist()
        yield from zip(self._seed.outside_texts(), held, strict=True)

    def _captured(self, captures: Captures) -> Iterator[tuple[str, bool]]:
        owners = capture_shards(captures)
        for number in np.unique(owners).tolist():
            keys = self._library.index(number, ["key"])["key"]
            rows = np.zeros(len(keys), dtype=bool)
            rows[capture_rows(captures[owners == number])] = True
            held = iter(self._is_held_out(keys[rows]).tolist())
            for texts in iter_texts(self._library.captured[number], rows):
                yield from ((text, next(held)) for text in texts)
