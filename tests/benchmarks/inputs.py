"""Inputs of the contestants, made once from the sample of real pages, in a temporary folder."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

from mathquarry.data.crawl.warc import Page, read_pages
from mathquarry.data.extract.html import extract
from mathquarry.data.mine.classify.classifier import collapse, train, write_examples
from mathquarry.data.mine.config import ClassifierConfig

_SEED_PAGES = 100
_MAX_PAGE_BYTES = 5_000_000


def read_labels(data: Path) -> dict[str, dict]:
    """Facts about each page of the sample, by URL; used only to measure."""
    with gzip.open(data / "web" / "labels.jsonl.gz", "rt", encoding="utf-8") as file:
        return {record["url"]: record for record in map(json.loads, file)}


def read_sample(data: Path) -> list[Page]:
    """The pages of the sample."""
    found = read_pages(str(data / "web" / "sample.warc.gz"), _MAX_PAGE_BYTES)
    return [page for page in found if isinstance(page, Page)]


def write_pages(pages: list[Page], path: Path) -> Path:
    """Decoded HTML as JSONL."""
    return _write(path, [{"url": page.url, "html": page.html} for page in pages])


def write_documents(pages: list[Page], path: Path, pairs: Path, seed: int = 0) -> Path:
    """Texts of the pages as JSONL, then 200 of them again with a few words changed; `pairs` lists [original, copy]."""
    texts = [text for page in pages if len(text := extract(page.html).text) >= 500]
    draw = random.Random(seed)
    originals = draw.sample(range(len(texts)), 200)
    couples = []
    for original in originals:
        couples.append([original, len(texts)])
        texts.append(_edited(texts[original], draw.uniform(0.0, 0.06), draw))
    pairs.write_text(json.dumps(couples))
    return _write(path, [{"text": text} for text in texts])


def _edited(text: str, share: float, draw: random.Random) -> str:
    return re.sub(r"\w+", lambda word: f"w{draw.randrange(10**6)}" if draw.random() < share else word[0], text)


def train_classifier(pages: list[Page], labels: dict[str, dict], folder: Path) -> Path:
    """A classifier with the paper's settings, collapsed: the sample's first mathematical pages against as many and half of the others."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "classifier.bin"
    texts: dict[bool, list[str]] = {True: [], False: []}
    for page in pages:
        texts[labels[page.url]["label"] == "math"].append(page.html)
    examples = [(extract(html).text, True) for html in texts[True][:_SEED_PAGES]]
    examples += [(extract(html).text, False) for html in texts[False][: _SEED_PAGES * 3 // 2]]
    write_examples(folder / "examples.txt", iter(examples), len(examples), 0)
    train(folder / "examples.txt", folder / "full.bin", ClassifierConfig(), 0)
    collapse(folder / "full.bin", model)
    (folder / "full.bin").unlink()
    return model


def _write(path: Path, records: list[dict]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return path
