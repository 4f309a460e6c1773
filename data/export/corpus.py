"""Exports a mined corpus as a dataset: Parquet that `datasets` can open, a card, and the record of decontamination.

The record lists pages, benchmarks, problems and the length of each match, but not the matching words: publishing them would copy the
benchmarks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.export.dataset_card import CorpusFacts, dataset_card
from mathquarry.data.files import disk_error, exchange, read_json, write_json

REPORT, QUOTATIONS = "decontamination.json", "decontamination/quotations.parquet"
"""Counts by benchmark; and one row per page and benchmark text, without the quoted words."""
_COLUMNS = ["url", "removed", "benchmark", "problem", "part", "n", "segments"]


def export_corpus(mined: Path, title: str, lineage: Sequence[tuple[int, str, Mapping[str, Any]]], out: Path) -> None:
    """Write the corpus of the `mine` artifact in `mined` to `out`, which must be new or empty. It appears completely or not at all.

    Raises `MathQuarryError` when the artifact lacks a file, when `out` is taken, and when the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MathQuarryError(f"{out} exists already. Name a new folder, or delete it first.")
    parts = sorted((mined / "corpus").glob("part-*.parquet"))
    if not parts:
        raise MathQuarryError(f"{mined / 'corpus'} contains no corpus. Make it again with `mathquarry run`.")
    record = read_json(mined / "rounds.json")
    staged = out.absolute().with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        (staged / "data").mkdir(parents=True)
        for number, part in enumerate(parts):
            shutil.copyfile(part, staged / "data" / f"train-{number:05d}-of-{len(parts):05d}.parquet")
        (staged / QUOTATIONS).parent.mkdir()
        quotations = pq.read_table(mined / "contamination.parquet", columns=_COLUMNS)
        pq.write_table(quotations, staged / QUOTATIONS, compression="zstd")
        write_json(staged / REPORT, {"totals": record["decontamination"], "by_benchmark": record["contamination"]})
        facts = CorpusFacts(title, [pq.read_metadata(part) for part in parts], record, quotations.num_rows, lineage)
        (staged / "README.md").write_text(dataset_card(facts), encoding="utf-8")
        exchange(staged, out.absolute())
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
