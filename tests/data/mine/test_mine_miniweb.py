"""The complete stage on the generated mini-web, whose answers are known."""

from pathlib import Path

import pytest

from mathquarry.data.crawl.build import build_crawl
from mathquarry.data.crawl.config import CrawlConfig, GeneratedCrawl
from mathquarry.data.mine.config import ClassifierConfig, MineConfig, RecallConfig, SeedConfig, WorkersConfig
from mathquarry.data.mine.loop import mine
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemsConfig
from mathquarry.data.store.workspace import Workspace


@pytest.mark.slow
@pytest.mark.parametrize("recall", [False, True])
def test_what_was_planted_is_removed_and_the_mathematics_found(recall: bool, tmp_path: Path) -> None:
    problems, crawl, mined = (Workspace.at(tmp_path / name) for name in ("problems", "crawl", "mined"))
    build_problems(ProblemsConfig(source=GeneratedProblems(train=400, test=200)), problems)
    web = GeneratedCrawl(pages=900, domains=24, warc_files=3, near_duplicates=40, url_duplicates=15, contaminated=20)
    build_crawl(CrawlConfig(source=web), problems.out, crawl)
    config = MineConfig(
        classifier=ClassifierConfig(dim=16, buckets=20_000, learning_rate=0.5, epochs=5),
        seed_pages=SeedConfig(source="crawl-formulas", positives=80, negatives=120),
        token_budgets=[50_000, 80_000],
        recall=RecallConfig(enabled=recall),
        workers=WorkersConfig(count=1, partitions=2),
    )
    summary = mine(config, crawl.out, problems.out, mined)
    assert summary["planted_contaminated"] == summary["removed_contaminated"] == 20
    assert summary["contaminated_in_corpus"] == 0
    assert summary["planted_near_duplicates"] == summary["removed_near_duplicates"] == 40
    assert summary["planted_url_duplicates"] == summary["removed_url_duplicates"] == 15
    assert summary["math_precision"] > 0.95
    assert summary["math_recall"] > 0.5
