import pytest

from tests.benchmarks.plan import SCORED, SURVIVORS, Rates, plan_lines

RATES = Rates(plain=100.0, careful=50.0, signatures=1000.0, capture_bytes=4000.0)


def test_core_hours_are_pages_over_rates() -> None:
    hours = list(RATES.core_hours(3_600_000).values())
    assert hours == pytest.approx([10.0, 1.0, 3000 / SCORED, 20 * SURVIVORS])


def test_the_tables_give_a_snapshot_and_the_papers_crawl_side_by_side() -> None:
    lines = plan_lines(RATES, worker_mib=512.0, page_kilobytes=68.0, circumstances=["measured"])
    assert lines[0] == "measured"
    disk = next(line for line in lines if line.startswith("| captures on disk"))
    assert disk.endswith("| 10.4 | 160.0 |")  # 4 kB a page
    assert all(line.count("|") == 4 for line in lines if line.startswith("|"))
