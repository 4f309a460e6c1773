"""A small crawl with known content: WARC files of mathematical and other pages, and benchmark problems."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.mine.config import ClassifierConfig, MineConfig, RecallConfig, SeedConfig, WorkersConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.store.workspace import Workspace

MATH_WORDS = [
    "theorem",
    "lemma",
    "proof",
    "integral",
    "converges",
    "polynomial",
    "matrix",
    "prime",
    "vector",
    "continuous",
    "bounded",
    "derivative",
    "sequence",
]
OTHER_WORDS = [
    "coffee",
    "holiday",
    "election",
    "football",
    "recipe",
    "weather",
    "concert",
    "museum",
    "village",
    "hotel",
    "garden",
    "minister",
    "traffic",
]
FILLER = ["the", "of", "and", "in", "a", "for", "on", "is", "with", "that", "by", "this", "from"]

QUOTED = Problem(
    id="held-out-1",
    question="A baker fills nineteen trays with fourteen almond buns each and sells every second tray. How many buns are left?",
    answer="133",
    solution="There are 19*14=<<19*14=266>>266 buns.\nHalf of the buns are left: 266/2=<<266/2=133>>133.",
    source="bakery",
)


def prose(words: list[str], seed: int, count: int = 120) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(words if draw.random() < 0.5 else FILLER) for _ in range(count))


def html_page(title: str, text: str, formulas: int = 0) -> str:
    maths = " ".join(f"and so $x_{{{number}}} + {number} = y$ holds" for number in range(formulas))
    return f"<html><head><title>{title}</title></head><body><main><h1>{title}</h1><p>{text} {maths}</p></main></body></html>"


def warc_record(url: str, html: str) -> bytes:
    body = html.encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{abs(hash(url)) % 10**12:012d}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + b"\r\n\r\n", mtime=0)


def crawl_pages() -> list[tuple[str, str]]:
    """(URL, HTML) in order. A host with mathematics under /questions/ only, a host of mathematics, others without."""
    pages = []
    for number in range(24):
        title, text = f"Question {number}", prose(MATH_WORDS, number)
        pages.append((f"https://forum.example.org/questions/{number}", html_page(title, text, formulas=6 if number % 2 else 0)))
    for number in range(12):
        pages.append((f"https://forum.example.org/jobs/{number}", html_page(f"Job {number}", prose(OTHER_WORDS, 100 + number))))
    for number in range(20):
        text = prose(MATH_WORDS, 200 + number)
        pages.append((f"https://notes.example.net/n{number}.html", html_page(f"Note {number}", text, formulas=3)))
    for number in range(80):
        text = prose(OTHER_WORDS, 300 + number)
        pages.append((f"https://news{number % 4}.example.com/{number}.html", html_page(f"News {number}", text)))
    draw = random.Random(7)
    draw.shuffle(pages)
    quoting = f"{prose(MATH_WORDS, 900)} {QUOTED.question} {QUOTED.answer}"
    near = prose(MATH_WORDS, 203).rsplit(" ", 2)[0]
    pages += [
        ("https://quotes.example.org/bakery.html", html_page("Exercises", quoting, formulas=3)),
        ("http://notes.example.net/n3.html?utm_source=mail#top", html_page("Note 3 again", prose(MATH_WORDS, 901), formulas=3)),
        ("https://mirror.example.org/n3-copy.html", html_page("Note 3", near, formulas=3)),
        ("https://thin.example.org/", html_page("", "Too little.")),
    ]
    return pages


WriteCrawl = Callable[[list[tuple[str, str]]], Path]


def write_warcs(crawl: Path, pages: list[tuple[str, str]]) -> Path:
    """Write pages to three WARC files of a crawl artifact."""
    files = [crawl / "warc" / f"{number}.warc.gz" for number in range(3)]
    files[0].parent.mkdir(parents=True)
    for number, file in enumerate(files):
        file.write_bytes(b"".join(warc_record(url, html) for url, html in pages[number::3]))
    listing = [{"path": str(file.relative_to(crawl)), "sha256": "", "bytes": file.stat().st_size} for file in files]
    (crawl / "warcs.json").write_text(json.dumps({"files": listing}))
    return crawl


def write_held_out(folder: Path) -> Path:
    """Write the held-out question and one of a benchmark as a problems artifact."""
    folder.mkdir()
    write_problems(folder / "test.jsonl", [QUOTED])
    write_problems(folder / "benchmarks.jsonl", [Problem(id="b1", question="Compute the ninth prime cube", answer="12167", source="cubes")])
    return folder


@pytest.fixture
def write_crawl(tmp_path: Path) -> WriteCrawl:
    """Write pages to three WARC files of a crawl artifact."""
    return lambda pages: write_warcs(tmp_path / "crawl", pages)


@pytest.fixture
def crawl(write_crawl: WriteCrawl) -> Path:
    return write_crawl(crawl_pages())


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_held_out(tmp_path / "problems")


def small_config() -> MineConfig:
    """Sizes for the small crawl: the budget holds about 41 of the 44 mathematical pages."""
    return MineConfig(
        classifier=ClassifierConfig(dim=16, buckets=5000, learning_rate=0.5, epochs=20, min_count=1),
        seed_pages=SeedConfig(source="crawl-formulas", positives=10, negatives=30),
        token_budgets=[6000, 8500],
        stop_overlap=0.9,
        domain_min_pages=5,
        recall=RecallConfig(enabled=False),
        workers=WorkersConfig(count=1, partitions=2),
    )


@pytest.fixture
def mine_config() -> MineConfig:
    return small_config()


@dataclass(frozen=True)
class Mined:
    """The small crawl, mined once for all tests that only read what came out."""

    workspace: Workspace
    summary: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.workspace.out


@pytest.fixture(scope="session")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Mined:
    folder = tmp_path_factory.mktemp("mined")
    workspace = Workspace.at(folder / "run")
    summary = mine(small_config(), write_warcs(folder / "crawl", crawl_pages()), write_held_out(folder / "problems"), workspace)
    return Mined(workspace, summary)
