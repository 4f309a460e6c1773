"""Prints the domain table in a terminal, and writes an annotation file to fill in.

The file lists the paths of each mathematical domain, with numbers and sample pages as comments, and `undecided` as the
verdict. When it is written again after another round, only new paths are added at its end, and everything a person wrote
stays. Titles and addresses come from web pages and cannot break out of their comment or string.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mathquarry.data.crawl.annotations import Annotations
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import atomic_path

Row = dict[str, Any]

_HEAD = """\
# Verdicts on URL paths: set `verdict` to "accept" (its pages are mathematics) or "reject"; "undecided" counts as none.
# A prefix covers the path and everything below it; `*` matches any part of a folder's name; the longest prefix decides.
# Use it with [mine] annotations = "this file".
"""


def read_domains(artifact: Path) -> list[Row]:
    """The domain table of a `mine` artifact, greatest expected gain first. Raises `MathQuarryError` when there is none."""
    path = artifact / "domains.parquet"
    if not path.exists():
        raise MathQuarryError(f"{artifact} has no domains.parquet; make the corpus again.")
    rows = pq.read_table(path).to_pylist()
    if rows and "gain" not in rows[0]:
        raise MathQuarryError(f"{path} is from an older version, without expected gain; make the corpus again.")
    return rows


def format_domains(rows: list[Row], limit: int) -> str:
    """The first `limit` hosts as text, one line each, with the largest paths of mathematical ones below."""
    longest = min(48, max([12, *(len(row["host"]) + 2 for row in rows[:limit])]))
    widths = f"{{:<{longest}}} {{:>9}} {{:>9}} {{:>6}}  {{:<15}} {{:>8}}  {{}}"
    lines = [widths.format("domain", "pages", "collected", "share", "95 % interval", "gain", "")]
    for row in rows[:limit]:
        lines.append(_line(widths, row, clean(row["host"]), "mathematical" if row["mathematical"] else ""))
        accepted = set(row["accepted"])
        lines += [
            _line(widths, prefix, "  " + clean(prefix["prefix"]), "accepted" if prefix["prefix"] in accepted else "")
            for prefix in row["prefixes"]
        ]
    if len(rows) > limit:
        lines.append(f"and {len(rows) - limit:,} more; see --limit")
    return "\n".join(line.rstrip() for line in lines)


def _line(widths: str, row: Row, name: str, note: str) -> str:
    interval = f"{100 * row['share_low']:.1f}–{100 * row['share_high']:.1f} %"
    return widths.format(
        name, f"{row['pages']:,}", f"{row['collected']:,}", f"{100 * row['share']:.0f} %", interval, f"{row['gain']:,.1f}", note
    )


def write_skeleton(rows: Iterable[Row], path: Path) -> int:
    """Write an annotation file, or add to an existing one. Returns the number of paths added.

    Raises `MathQuarryError` if the existing file is not an annotation file.
    """
    there = path.exists()
    known = {(verdict.host, verdict.stem) for verdict in Annotations.read(path).verdicts} if there else set()
    blocks = [
        _block(row, prefix)
        for row in rows
        if row["mathematical"]
        for prefix in row["prefixes"]
        if (row["host"], prefix["prefix"].rstrip("/")) not in known
    ]
    before = path.read_text(encoding="utf-8").rstrip("\n") + "\n" if there else _HEAD
    if blocks or not there:
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join([before, *blocks]), encoding="utf-8")
    return len(blocks)


def _block(row: Row, prefix: Row) -> str:
    low, high = 100 * prefix["share_low"], 100 * prefix["share_high"]
    lines = [
        f"# {prefix['collected']:,} of {prefix['pages']:,} pages collected, {100 * prefix['share']:.0f} % ({low:.1f} to {high:.1f} %); "
        f"expected gain {prefix['gain']:,.1f} pages" + ("; accepted without a person" if prefix["prefix"] in row["accepted"] else ""),
        *(f"#   {'+' if page['collected'] else '-'} {clean(page['path'])}  {clean(page['title'])}".rstrip() for page in prefix["samples"]),
        "[[path]]",
        f"host = {_string(row['host'])}",
        f"prefix = {_string(prefix['prefix'])}",
        'verdict = "undecided"',
        'annotator = ""',
        'note = ""',
    ]
    return "\n".join(lines) + "\n"


def clean(text: str) -> str:
    """Text of a web page on one line: control and formatting characters become spaces."""
    return " ".join("".join(" " if unicodedata.category(letter).startswith(("C", "Z")) else letter for letter in text).split())[:160]


def _string(text: str) -> str:
    """A TOML basic string: JSON's escapes, plus the one control character that JSON does not escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
