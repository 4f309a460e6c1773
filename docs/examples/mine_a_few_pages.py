"""Mine a small crawl and look at what the rounds found: `python docs/examples/mine_a_few_pages.py`, half a minute.

The crawl is a generated mini-web, so it is known which pages are mathematics. For pages of your own, put WARC files into `CrawlFiles`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CrawlConfig, GeneratedCrawl
from mathquarry.data.mine.config import ClassifierConfig, MineConfig, RecallConfig, SeedConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemsConfig
from mathquarry.data.store.workspace import Workspace

SMALL_WEB = GeneratedCrawl(pages=600, domains=16, warc_files=2, near_duplicates=12, url_duplicates=6, contaminated=8)
ROUNDS = MineConfig(
    seed_pages=SeedConfig(source="crawl-formulas", positives=60, negatives=60),
    classifier=ClassifierConfig(dim=16, buckets=50_000, learning_rate=0.5, epochs=10),
    recall=RecallConfig(enabled=False),
    token_budgets=[40_000, 60_000, 70_000],
)


def main() -> None:
    """Problems, a crawl, the corpus; then how right the corpus is, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        problems, crawl, corpus = (Workspace.at(Path(folder) / name) for name in ("problems", "crawl", "corpus"))
        build_problems(ProblemsConfig(source=GeneratedProblems(train=400, test=60)), problems)
        build_crawl(CrawlConfig(source=SMALL_WEB), problems.out, crawl)
        summary = mine(ROUNDS, crawl.out, problems.out, corpus)

        labels = {page["url"]: page["label"] for page in map(json.loads, (crawl.out / "truth.jsonl").read_text().splitlines())}
        pages = pq.read_table(corpus.out / "corpus", columns=["url", "score", "round", "formulas"]).to_pylist()
        print(f"{summary['pages']} of {len(labels)} captures are in the corpus after {summary['rounds']} rounds:")
        for number in sorted({page["round"] for page in pages}):
            new = [page for page in pages if page["round"] == number]
            right = sum(labels[page["url"]] != "other" for page in new)
            plain = sum(labels[page["url"]] == "math_plain" for page in new)
            print(f"  round {number}: {len(new)} new pages, {right} of them mathematics, {plain} of these without any formula")
        lost = sum(label != "other" for label in labels.values()) - sum(labels[page["url"]] != "other" for page in pages)
        print(f"{lost} mathematical captures are not: repeated, quoting a held-out problem, or beyond the budget")


if __name__ == "__main__":
    main()
