"""Experiments about training texts in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.report.build import make_sections
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Chart, Table
from mathquarry.data.report.sections.experiments import arms_of, text_table
from tests.data.report.report_arms import experiment, trained


@pytest.fixture
def artifacts(tmp_path: Path) -> list[ReportArtifact]:
    return experiment(tmp_path)


def test_arms_have_the_tokens_curves_and_metrics_of_all_parts_and_seeds(artifacts: list[ReportArtifact]) -> None:
    start, crawl, mined = arms_of(artifacts)
    assert [start.name, crawl.name, mined.name] == ["start", "crawl", "two-mines"]
    assert (crawl.tokens, mined.tokens, mined.seeds) == (500, 1000, [0, 1])
    assert mined.curves["problems_bits"][0] == {0: 1.8, 500: 1.6, 1000: 1.3}
    assert mined.metrics["problems_bits"] == {0: 1.3, 1: pytest.approx(1.42)}
    assert crawl.metrics["greedy"] == {0: 0.4, 1: 0.5}
    assert "greedy" not in start.metrics


def test_the_section_has_a_table_curves_and_the_verdict_on_each_difference(artifacts: list[ReportArtifact]) -> None:
    section, *_ = make_sections({"config": {}}, artifacts)
    assert (section.id, section.title) == ("experiment", "Code and mathematics")
    table, differences = (block for block in section.blocks if isinstance(block, Table))
    assert list(table.headers) == ["Arm", "Seeds", "Tokens", "Bits per byte, problems", "Greedy"]
    assert list(table.rows[1]) == ["crawl", "2", "500", "1.550 ± 0.050", "45.0 ± 5.0 %"]
    assert table.rows[0][-1] == "–"
    assert [tuple(row) for row in differences.rows] == [
        ("start against crawl", "Bits per byte, problems", "+0.300 ± 0.000", "worse"),
        ("two-mines against crawl", "Bits per byte, problems", "-0.190 ± 0.010", "better"),
        ("two-mines against crawl", "Greedy", "+0.0 ± 5.0 points", "within noise"),
    ]
    charts = [block.title for block in section.blocks if isinstance(block, Chart)]
    assert charts == ["Bits per byte, problems", "Accuracy by arm"]


def test_the_terminal_shows_the_same_table(artifacts: list[ReportArtifact]) -> None:
    lines = text_table(arms_of(artifacts))
    assert lines[0].split() == ["Arm", "Seeds", "Tokens", "Bits", "per", "byte,", "problems", "Greedy"]
    assert len({len(line) for line in lines}) == 1


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    made = [trained(tmp_path, f"pretrain-papers-{arm}-3", [2.0, last]) for arm, last in (("papers", 1.9), ("mined", 1.2))]
    section, *_ = make_sections({"config": {}}, made)
    assert list(section.blocks[-1].rows[0]) == ["mined against papers", "Bits per byte, problems", "-0.700", "only one seed"]  # type: ignore[union-attr]
