"""The comparison of training methods in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.report.build import make_sections
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Chart, Table
from mathquarry.data.report.sections.comparison import Spread, comparison_section
from tests.data.report.report_arms import compared_methods, method_artifact, method_scores


@pytest.fixture
def compared(tmp_path: Path) -> list[ReportArtifact]:
    return compared_methods(tmp_path)


def test_mean_and_standard_error_are_over_seeds() -> None:
    spread = Spread.of([0.5, 0.7, 0.9])
    assert spread.mean == pytest.approx(0.7)
    assert spread.error == pytest.approx(0.2 / 3**0.5)
    assert str(spread) == "70.0 ± 11.5 %"
    assert Spread.of([0.5]).error == 0


def test_it_shows_a_table_and_the_papers_figures(compared: list[ReportArtifact]) -> None:
    section = comparison_section(compared)
    assert section is not None
    table = section.blocks[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["Start (SFT)", "RFT", "Online RFT", "GRPO+OS"]
    assert list(table.rows[1])[1:3] == ["2", "61.0 ± 1.0 %"]
    charts = {block.title: block for block in section.blocks if isinstance(block, Chart)}
    assert set(charts) == {"Accuracy by method", "Accuracy over steps", "Pass@K over K", "Maj@K over K"}
    (curve,) = [trace for trace in charts["Accuracy over steps"].spec["data"] if trace["name"] == "RFT"]
    assert curve["x"] == [0, 5]
    assert curve["y"] == pytest.approx([0.5, 0.61])


def test_it_says_which_of_the_papers_orderings_hold(compared: list[ReportArtifact]) -> None:
    section = comparison_section(compared)
    assert section is not None
    verdicts = {(row[0], row[1]): row[3] for row in section.blocks[-1].rows}  # type: ignore[union-attr]
    assert verdicts["Online RFT above RFT", "Greedy"] == "holds"
    assert verdicts["GRPO+OS above Online RFT", "Greedy"] == "within noise"
    assert verdicts["Maj@4 of RFT above the start's", "Maj@4"] == "holds"
    assert verdicts["Pass@4 of RFT as the start's", "Pass@4"] == "holds"


def test_other_runs_have_no_comparison(tmp_path: Path) -> None:
    others = [method_artifact(tmp_path, "evaluate-rl-1", method_scores(0.5, 0.5)), method_artifact(tmp_path, "grpo-1")]
    assert comparison_section(others) is None


def test_a_comparisons_page_leaves_out_what_belongs_to_one_run(compared: list[ReportArtifact]) -> None:
    names = [section.id for section in make_sections({"stages": [], "config": {"name": "tiny"}}, compared)]
    assert names[0] == "comparison"
    assert "rl" not in names
