"""Several copies of the sample that do not repeat each other, to measure how cost grows."""

from __future__ import annotations

import gzip
import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from mathquarry.data.crawl.warc import Page
from mathquarry.data.crawl.warc_writer import WarcWriter
from mathquarry.data.problems.problem import Problem, write_problems

_DATE = datetime(2026, 1, 1, tzinfo=UTC)
_TEXT = re.compile(r">([^<>$\\`]{20,})<")
_SCRIPT = re.compile(r"(?is)(<(?:script|style|pre|code|textarea)\b.*?</(?:script|style|pre|code|textarea)>)")


def write_copies(pages: list[Page], count: int, crawl: Path) -> None:
    """A crawl artifact of `count` WARC files, each a copy of the sample: the first unchanged, others on own hosts, with shuffled words.

    Shuffling within runs of text keeps vocabulary, markup and length, and leaves hardly a 5-gram in place.
    """
    (crawl / "warc").mkdir(parents=True)
    files = []
    for copy in range(count):
        name = f"warc/{copy:03d}.warc.gz"
        with (crawl / name).open("wb") as file:
            writer = WarcWriter(file, name, _DATE)
            for page in pages:
                html = page.html if copy == 0 else _shuffled(page.html, random.Random(f"{copy} {page.url}"))
                writer.response(_moved(page.url, copy), html.encode("utf-8", "replace"), _DATE)
        files.append({"path": name})
    (crawl / "warcs.json").write_text(json.dumps({"files": files}))


def _moved(url: str, copy: int) -> str:
    return url if copy == 0 else url.replace(urlsplit(url).netloc, f"copy{copy}.{urlsplit(url).netloc}", 1)


def _shuffled(html: str, draw: random.Random) -> str:
    def shuffle(match: re.Match[str]) -> str:
        words = match[1].split()
        draw.shuffle(words)
        return f"> {' '.join(words)} <"

    parts = _SCRIPT.split(html)
    return "".join(part if place % 2 else _TEXT.sub(shuffle, part) for place, part in enumerate(parts))


def write_benchmark_problems(data: Path, folder: Path) -> None:
    """GSM8K's test questions, for decontamination."""
    folder.mkdir()
    with gzip.open(data / "problems" / "gsm8k-test.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    problems = [
        Problem(id=str(number), question=record["question"], answer=record["answer"].rpartition("####")[2].strip(), source="gsm8k")
        for number, record in enumerate(records)
    ]
    write_problems(folder / "test.jsonl", problems)
    write_problems(folder / "benchmarks.jsonl", problems[:1])
