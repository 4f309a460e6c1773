"""The page over credit, reward and refresh: arms by artifact names, orderings for each seed, cost and AUC by iteration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mathquarry.data.report.build import build_report, make_opening, make_sections
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Chart, Table
from mathquarry.data.report.sections.grid import AUC, FROZEN, REFRESHED, SECONDS, SHARED, ArmKey, grid_of, name_of, place_of
from mathquarry.data.report.sections.grid_claims import Point, claims_of
from mathquarry.data.report.sections.grid_section import EVERY, ORDERINGS, TABLE
from tests.data.report.report_arms import grid, method_artifact, method_scores
from tests.data.report.test_report import Page

SUM, OUTCOME = ArmKey("step-sum", "process", REFRESHED), ArmKey("outcome", "process", REFRESHED)


@pytest.fixture
def made(tmp_path: Path) -> list[ReportArtifact]:
    return grid(tmp_path)


def table(artifacts: list[ReportArtifact], title: str) -> Table:
    (found,) = [block for block in make_sections({"stages": []}, artifacts)[0].blocks if block.title == title]
    assert isinstance(found, Table)
    return found


@pytest.mark.parametrize("stage", ["grpo", "evaluate", "reward"])
def test_a_name_says_where_an_artifact_belongs(stage: str, tmp_path: Path) -> None:
    place = place_of(method_artifact(tmp_path, name_of(stage, SUM, 3, 2)))
    assert place == (stage, SUM, 3, 2)


@pytest.mark.parametrize(
    "name", ["grpo-1", "grpo-grpo+os-0", "evaluate-both-0-1", "reward-0-1", "grpo-step-max+process+frozen-0-1", "grpo-1-x"]
)
def test_other_names_belong_to_no_arm(name: str, tmp_path: Path) -> None:
    assert place_of(method_artifact(tmp_path, name)) is None
    assert grid_of([method_artifact(tmp_path / "one", name)]) == {}


def test_the_shared_first_iteration_is_in_both_arms_and_a_rule_has_one(made: list[ReportArtifact]) -> None:
    arms = grid_of(made)
    assert [key.model for key in arms if key.reward == "process"] == [REFRESHED, FROZEN] * 2
    assert arms[SUM].metrics["Greedy"][1] == arms[SUM._replace(model=FROZEN)].metrics["Greedy"][1] == dict.fromkeys(range(3), 0.7)
    assert arms[SUM].metrics["Greedy"][0] == dict.fromkeys(range(3), 0.5)
    assert arms[ArmKey("outcome", "rule", SHARED)].last == 2


def test_auc_is_the_mean_of_an_iterations_steps_and_time_is_that_of_its_stages(made: list[ReportArtifact]) -> None:
    arm = grid_of(made)[SUM]
    assert arm.metrics[AUC][2] == pytest.approx({seed: (0.7 + 0.01 * seed + 0.8) / 2 for seed in range(3)})
    assert arm.metrics[SECONDS] == {1: dict.fromkeys(range(3), 70.0), 2: dict.fromkeys(range(3), 70.0)}
    assert AUC not in grid_of(made)[ArmKey("outcome", "rule", SHARED)].metrics, "a rule has no AUC by itself"


def test_orderings_are_tested_seed_by_seed(made: list[ReportArtifact]) -> None:
    claims = {(claim.text, claim.better.arm): claim for claim in claims_of(grid_of(made))}
    steps = claims["step rewards are better than the completion's reward", SUM]
    assert steps.worse == Point(OUTCOME, "Greedy", 2)
    assert steps.differences == pytest.approx([0.1, 0.1002, 0.1004])
    assert (steps.points, steps.verdict) == ("+10.0 ± 0.0", "holds")
    counts = Counter(text for text, _ in claims)
    assert counts == {
        "step rewards are better than the completion's reward": 2,
        "a refreshed reward model is better than a frozen one": 2,
        "a refreshed reward model separates correct from wrong answers better than a frozen one (AUC)": 2,
        "a learned reward is better than the rule": 1,
        "the last iteration is better than the first": 5,
        "Maj@K rises more than Pass@K": 5,
    }
    rows = table(made, ORDERINGS).rows
    assert len(rows) == sum(counts.values())
    assert {row[-1] for row in rows if row[0] == "Step rewards are better than the completion's reward"} == {"holds"}


def test_an_arm_is_compared_with_its_first_iteration_and_rises_are_those_since_the_start(made: list[ReportArtifact]) -> None:
    frozen = SUM._replace(model=FROZEN)
    claims = {claim.text: claim for claim in claims_of(grid_of(made)) if claim.better.arm == frozen}
    later = claims["the last iteration is better than the first"]
    assert (later.better, later.worse) == (Point(frozen, "Greedy", 2), Point(frozen, "Greedy", 1))
    assert later.differences == pytest.approx([0.05, 0.0522, 0.0544])  # 0.75, 0.7522, 0.7544 against 0.7
    rises = claims["Maj@K rises more than Pass@K"]
    assert rises.better.words == "sum of steps, process model, frozen: rise of Maj@4 after iteration 2"
    assert rises.differences == pytest.approx([0.25, 0.2522, 0.2544])  # Maj@4 from 0.5; Pass@4 stays at 0.9
    assert rises.verdict == "holds"


def test_one_seed_says_nothing_and_equal_arms_are_noise(tmp_path: Path) -> None:
    assert {claim.verdict for claim in claims_of(grid_of(grid(tmp_path / "one", seeds=1)))} == {"only one seed"}
    made = []
    for seed in range(5):
        for model, value in ((REFRESHED, 0.8 + 0.02 * (-1) ** seed), (FROZEN, 0.8)):
            name = name_of("evaluate", ArmKey("outcome", "outcome", model), seed, 2)
            made.append(method_artifact(tmp_path, name, method_scores(value, value)))
    claim = next(claim for claim in claims_of(grid_of(made)) if claim.text.startswith("a refreshed"))
    assert claim.verdict == "within noise"
    assert claim.points.startswith("+0.4 ± ")


def test_the_table_has_a_row_a_credit_and_a_column_a_reward(made: list[ReportArtifact]) -> None:
    found = table(made, TABLE)
    assert found.headers == ["Credit", "rule", "process model, refreshed", "process model, frozen"]
    assert [list(row) for row in found.rows] == [
        ["outcome", "72.0 ± 0.0 %", "70.2 ± 0.1 %", "65.2 ± 0.1 %"],
        ["sum of steps", "–", "80.2 ± 0.1 %", "75.2 ± 0.1 %"],
    ]


def test_every_iteration_has_its_scores_auc_and_time(made: list[ReportArtifact]) -> None:
    rows = [list(row) for row in table(made, EVERY).rows]
    last = next(row for row in rows if row[:4] == ["sum of steps", "process model", "refreshed", "2"])
    assert last[5] == "80.2 ± 0.1 %"
    assert last[-2:] == ["0.755 ± 0.003", "70.0 s"]
    rule = next(row for row in rows if row[1] == "rule")
    assert rule[2] == "–"
    assert rule[-2] == "–"


def test_curves_begin_at_the_start_and_frozen_ones_are_dashed(made: list[ReportArtifact]) -> None:
    charts = {block.title: block for block in make_sections({"stages": []}, made)[0].blocks if isinstance(block, Chart)}
    assert set(charts) == {
        "Greedy accuracy by iteration: rule",
        "Greedy accuracy by iteration: process model",
        "Reward model's AUC by iteration: process model",
    }
    lines = {trace["name"]: trace for trace in charts["Greedy accuracy by iteration: process model"].spec["data"]}
    assert lines["sum of steps, refreshed"]["x"] == [0, 1, 2]
    assert lines["sum of steps, refreshed"]["y"][0] == 0.5
    assert lines["sum of steps, refreshed"]["line"]["dash"] == "solid"
    assert lines["sum of steps, frozen"]["line"]["dash"] == "dash"


def test_the_page_opens_with_the_best_arm_and_the_orderings(made: list[ReportArtifact], tmp_path: Path) -> None:
    opening = make_opening({"stages": []}, made)
    assert [sentence.text for sentence in opening.warnings] == ["3 seeds are few, so their spread is uncertain."]
    best, *orderings = (sentence.text for sentence in opening.findings)
    assert best.startswith(
        "The highest mean greedy accuracy is 80.2 ± 0.1 %, after iteration 2 of the arm sum of steps, process model, refreshed."
    )
    assert {link.title for link in opening.findings[0].links} <= {block.title for block in make_sections({"stages": []}, made)[0].blocks}
    assert orderings == [
        "A refreshed reward model is better than a frozen one: holds in 2 of 2 comparisons.",
        "A refreshed reward model separates correct from wrong answers better than a frozen one (AUC): within noise in 2 of 2 comparisons.",
        "The last iteration is better than the first: holds in 4, within noise in 1 of 5 comparisons.",
        "Step rewards are better than the completion's reward: holds in 2 of 2 comparisons.",
        "Maj@K rises more than Pass@K: holds in 4, within noise in 1 of 5 comparisons.",
    ]
    (tmp_path / "out").mkdir()
    run = {"id": "r", "recipe": "tiny", "started": "", "stages": []}
    build_report(run, made, tmp_path / "out")
    page = Page(tmp_path / "out" / "report.html")
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {str(href).removeprefix("#") for href in page.attribute("a", "href")} <= anchors
