"""Measurement code of every contestant. It uses only the standard library, because it also runs in the other systems' environments."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def measured(result: dict) -> Iterator[None]:
    """Time the block and print `result` with the metrics as the last line of standard output.

    `seconds` is wall time, `cpu_seconds` the processor time of this process and of its children that have ended.
    """
    before = os.times()
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    after = os.times()
    result |= {"seconds": seconds, "cpu_seconds": sum(after[:4]) - sum(before[:4])}
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def read_lines(path: str) -> list[dict]:
    """The records of a JSONL file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_texts(path: str | None, urls: list[str], texts: list[str]) -> None:
    """Write the extracted texts to a file, if one is given."""
    if path is None:
        return
    with open(path, "w", encoding="utf-8") as file:
        for url, text in zip(urls, texts, strict=True):
            file.write(json.dumps({"url": url, "text": text}) + "\n")
