"""Refreshed against frozen reward models in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.report.build import make_sections
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Chart, Table
from mathquarry.data.report.sections.iterations import AUC, arms_of, iteration_section
from tests.data.report.report_arms import iterations, method_artifact, method_scores


@pytest.fixture
def iterated(tmp_path: Path) -> list[ReportArtifact]:
    return iterations(tmp_path)


def tables(artifacts: list[ReportArtifact]) -> list[Table]:
    section = iteration_section(artifacts)
    assert section is not None
    return [block for block in section.blocks if isinstance(block, Table)]


def test_the_shared_first_iteration_is_in_both_arms(iterated: list[ReportArtifact]) -> None:
    arms = arms_of(iterated)
    assert arms["refreshed"].metrics["Greedy"][1] == arms["frozen"].metrics["Greedy"][1] == {0: 0.7, 1: 0.7}
    assert arms["frozen"].metrics["Greedy"][2] == {0: 0.8, 1: 0.8}


def test_an_iterations_auc_is_the_mean_of_its_steps(iterated: list[ReportArtifact]) -> None:
    arms = arms_of(iterated)
    assert arms["refreshed"].metrics[AUC][1][0] == pytest.approx(0.85)
    assert arms["refreshed"].metrics[AUC][2] == pytest.approx({0: 0.7, 1: 0.8})


def test_differences_are_taken_seed_by_seed(iterated: list[ReportArtifact]) -> None:
    differences = {row[0]: row for row in tables(iterated)[1].rows}
    # 0.9 - 0.8 and 1.0 - 0.8: a mean of 15 points, standard error 5; three standard errors are more than two.
    assert list(differences["Greedy"]) == ["Greedy", "2", "+15.0 ± 5.0 points", "refreshed is better"]
    # 0.7 - 0.6 and 0.8 - 0.6.
    assert differences[AUC][2] == "+0.150 ± 0.050"


def test_equal_arms_are_within_noise(tmp_path: Path) -> None:
    made = []
    for seed in (0, 1):
        made.append(method_artifact(tmp_path, f"evaluate-both-{seed}-1", method_scores(0.7, 0.7)))
        made += [method_artifact(tmp_path, f"evaluate-{arm}-{seed}-2", method_scores(0.8, 0.8)) for arm in ("refreshed", "frozen")]
    assert {row[3] for row in tables(made)[1].rows} == {"within noise"}


def test_refreshes_are_shown_with_the_auc_before_and_after(iterated: list[ReportArtifact]) -> None:
    rows = tables(iterated)[2].rows
    assert list(rows[0]) == ["first training", "2", "–", "0.900 ± 0.000", "0.800 ± 0.000"]
    assert list(rows[1])[:4] == ["after iteration 1", "2", "0.750 ± 0.050", "0.950 ± 0.000"]


def test_the_page_is_about_the_iterations_and_draws_error_bars(iterated: list[ReportArtifact]) -> None:
    sections = make_sections({"stages": []}, iterated)
    assert sections[0].id == "iterations"
    assert "reward" not in {section.id for section in sections}
    charts = {block.title: block for block in sections[0].blocks if isinstance(block, Chart)}
    refreshed = next(trace for trace in charts["Greedy accuracy by iteration"].spec["data"] if trace["name"] == "refreshed")
    assert refreshed["x"] == [0, 1, 2]
    assert refreshed["y"] == pytest.approx([0.5, 0.7, 0.95])
    assert refreshed["error_y"]["array"] == pytest.approx([0, 0, 0.05])
    assert set(charts) == {"Greedy accuracy by iteration", "Reward model's AUC by iteration"}


def test_other_runs_have_no_such_section(tmp_path: Path) -> None:
    assert iteration_section([method_artifact(tmp_path, "evaluate-rl-1", method_scores(0.7, 0.7))]) is None
