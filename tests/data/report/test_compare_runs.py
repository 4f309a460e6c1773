"""Runs side by side: what differs, by how much, and whether that is more than noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.ledger.sql import ask
from mathquarry.data.report.page.artifact import ReportArtifact, joined
from mathquarry.data.report.page.blocks import Chart, Picture, Table
from mathquarry.data.report.page.scores import read_scores
from mathquarry.data.report.runs.compare_runs import MOST_RUNS, build_comparison, comparison_sections
from mathquarry.data.report.runs.compare_scores import scores_opening
from mathquarry.data.report.runs.run_differences import ComparedRun, config_differences, why_apart
from mathquarry.data.report.sections.paired import Evaluation, Pair, differences, differences_source, evaluations_by_label
from mathquarry.data.store.workspace import MetricLog
from tests.data.report.report_arms import make_two_runs
from tests.data.report.report_run import HOSTILE, in_store
from tests.data.report.test_report import Page


def evaluated(folder: Path, greedy: list[bool], samples: list[int], first: int = 0, majority: float = 0.5) -> Evaluation:
    """Answers to questions numbered from `first`: greedy, and how many of four samples are right."""
    folder.mkdir(parents=True)
    rows = []
    for number, (right, count) in enumerate(zip(greedy, samples, strict=True), first):
        asked = {"problem_id": f"p{number}", "question": f"{number} + 1?", "gold": str(number + 1), "format": "cot"}
        rows.append(asked | {"kind": "greedy", "correct": right})
        rows += [asked | {"kind": "sample", "correct": index < count} for index in range(4)]
        rows.append(asked | {"format": "tool", "kind": "greedy", "correct": not right})
    pq.write_table(pa.Table.from_pylist(rows), folder / "answers.parquet")
    share = sum(greedy) / len(greedy)
    summary: dict[str, Any] = {"questions": len(greedy), "greedy": share, "greedy_se": 0.1}
    summary |= {"pass@1": sum(samples) / 4 / len(samples), "pass@1_se": 0.1, "maj@4": majority, "maj@4_se": 0.04}
    artifact = ReportArtifact("evaluate-sft", "evaluate", folder.name, folder, {}, summary, {}, 1.0, False)
    return Evaluation(artifact, "cot", read_scores(summary))


@pytest.fixture
def two_runs(tmp_path: Path) -> list[ComparedRun]:
    return make_two_runs(tmp_path)


def table(runs: list[ComparedRun], section: str, which: int) -> Table:
    found = next(found for found in comparison_sections(runs) if found.id == section)
    return [block for block in found.blocks if isinstance(block, Table)][which]


def test_only_fields_that_differ_are_listed_by_dotted_name() -> None:
    one: dict[str, Any] = {"sft": {"steps": 1, "schedule": {"kind": "cosine"}}, "seeds": [0], "name": "a"}
    other: dict[str, Any] = {"sft": {"steps": 2, "schedule": {"kind": "cosine"}}, "seeds": [0, 1], "name": "a", "harness": {}}
    assert config_differences([one, other]) == [("sft.steps", ["1", "2"]), ("seeds", ["[0]", "[0, 1]"]), ("harness", ["–", "{}"])]


def test_greedy_scores_of_the_same_questions_are_paired(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", [True, False, False, True], [1, 1, 1, 1])
    other = evaluated(tmp_path / "other", [True, True, False, True], [3, 2, 1, 2])
    found = differences(one, other)
    # By hand: the differences are 0, 1, 0, 0; and 0.5, 0.25, 0, 0.25.
    assert (found["Greedy"].value, found["Greedy"].questions) == (0.25, 4)
    assert (found["Greedy"].gained, found["Greedy"].lost) == (1, 0)
    assert found["Pass@1"].gained is None
    assert found["Greedy"].error == pytest.approx(math.sqrt((3 * 0.25**2 + 0.75**2) / 3 / 4))
    assert found["Pass@1"].value == pytest.approx(0.25)
    assert found["Pass@1"].error == pytest.approx(math.sqrt(2 * 0.25**2 / 3 / 4))


@pytest.mark.parametrize("kept", ["all", "no format", "nothing"])
def test_the_query_of_differences_gives_them_in_every_format_and_from_older_answers(kept: str, tmp_path: Path) -> None:
    made = [
        evaluated(tmp_path / "one", [True, False, False, True], [1, 0, 3, 4]),
        evaluated(tmp_path / "other", [True, True, False], [3, 2, 1], first=1),
    ]
    for number, one in enumerate(made):
        one.artifact.summary.update({"pass@2": 0.5 + 0.1 * number, "pass@2_se": 0.1})
        path = one.artifact.path / "answers.parquet"
        if kept == "nothing":
            path.unlink()
        elif kept == "no format":
            rows = [row for row in pq.read_table(path).to_pylist() if row.pop("format") == "cot"]
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            one.artifact.config["evaluate"] = {"formats": ["cot", "tool"]}
            one.artifact.summary.update({"tool_questions": 4, "tool_greedy": 0.5 + 0.1 * number, "tool_greedy_se": 0.2})
    ledger, moved = in_store(tmp_path / "store", [one.artifact for one in made])
    ours, theirs = (evaluations_by_label([artifact]) for artifact in moved)
    pairs = [Pair(label, "B−A", ours[label], theirs[label]) for label in ours]
    assert len(pairs) == (2 if kept == "all" else 1)
    given = {(row[0], row[2]): row[3:] for row in ask(ledger, differences_source(pairs).query).rows}
    expected = {(pair.label, name.lower()): apart for pair in pairs for name, apart in differences(pair.one, pair.other).items()}
    assert set(given) == set(expected)
    for place, apart in expected.items():
        assert given[place] == pytest.approx((apart.value, apart.error, apart.questions, apart.gained, apart.lost)), place
    assert expected["SFT", "pass@2"].questions == (None if kept == "nothing" else 3)


def test_questions_with_the_same_id_but_another_text_are_not_the_same(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", [True, False, True], [1, 1, 1])
    other = evaluated(tmp_path / "other", [True, True, True], [1, 1, 1])
    path = other.artifact.path / "answers.parquet"
    rows = [row | {"question": f"another {row['question']}"} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = differences(one, other)
    assert found["Greedy"].questions is None
    assert found["Greedy"].value == pytest.approx(1 / 3)
    assert found["Greedy"].error == pytest.approx(math.hypot(0.1, 0.1))


def test_of_questions_asked_in_part_only_the_common_ones_are_paired(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", [False, False, True, False], [0, 0, 0, 0])
    other = evaluated(tmp_path / "other", [True, False, True, True], [0, 0, 0, 0], first=2)
    found = differences(one, other)["Greedy"]
    assert (found.questions, found.value) == (2, 0.0)


def test_maj_at_k_is_taken_as_independent(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", [True, False], [1, 1], majority=0.5)
    found = differences(one, evaluated(tmp_path / "other", [True, False], [1, 1], majority=0.6))["Maj@4"]
    assert (found.questions, found.value) == (None, pytest.approx(0.1))
    assert found.error == pytest.approx(0.04 * math.sqrt(2))


def test_an_evaluation_without_its_answers_is_taken_as_independent(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", [True, False], [1, 1])
    other = evaluated(tmp_path / "other", [True, False], [1, 1])
    (other.artifact.path / "answers.parquet").unlink()
    assert differences(one, other)["Greedy"].questions is None


def test_every_format_of_answers_is_an_evaluation_of_its_own(tmp_path: Path) -> None:
    artifact = evaluated(tmp_path / "one", [True, False, False], [1, 1, 1]).artifact
    artifact.config["evaluate"] = {"formats": ["cot", "tool"]}
    artifact.summary.update({"tool_questions": 3, "tool_greedy": 2 / 3, "tool_greedy_se": 0.2})
    found = evaluations_by_label([artifact])
    assert list(found) == ["SFT", "SFT, tool"]
    assert found["SFT, tool"].scores.greedy.value == pytest.approx(2 / 3)
    assert list(found["SFT, tool"].by_question()["Greedy"].values()) == [0.0, 1.0, 1.0]


def test_the_page_lists_differences_with_what_they_are_over_and_whether_they_are_clear(two_runs: list[ComparedRun]) -> None:
    rows = [list(row) for row in table(two_runs, "scores", 1).rows]
    assert {row[0] for row in rows} == {"SFT", "RL 1", "RL 2"}
    assert {row[1] for row in rows} == {"B−A"}
    assert [row[4] for row in rows if row[0] == "SFT"] == ["1,000 questions", "20 questions", "independent", "independent"]
    assert {row[5] for row in rows} <= {"higher", "lower", "within noise"}


def test_the_page_opens_with_the_last_policies_difference(two_runs: list[ComparedRun], tmp_path: Path) -> None:
    (sentence,) = scores_opening(two_runs)
    (row,) = [row for row in table(two_runs, "scores", 1).rows if row[:3] == ["RL 2", "B−A", "Greedy"]]
    assert sentence.text.startswith(
        f"B against A, RL iteration 2: greedy accuracy is higher by {str(row[3])[1:]} points (1,000 questions; 20 correct only in B"
    )
    (same,) = scores_opening([two_runs[0], ComparedRun("B", two_runs[1].record, two_runs[0].artifacts)])
    assert same.text == "B against A, RL iteration 2: the same artifact."
    even = [True, False] * 50
    drawn = [ComparedRun(letter, {}, [evaluated(tmp_path / f"drawn-{letter}", even, [1] * 100).artifact]) for letter in "AB"]
    (noise,) = scores_opening(drawn)
    assert noise.text == (
        "B against A, the fine-tuned policy: greedy accuracy differs by +0.0 ± 0.0 points, within noise (100 questions; 0 correct only "
        "in B, 0 only in A)."
    )


def test_scores_of_a_shared_artifact_stand_in_one_row(two_runs: list[ComparedRun]) -> None:
    rows = [list(row)[:2] for row in table(two_runs, "scores", 0).rows]
    assert rows[:3] == [["Base", "A, B"], ["SFT", "A"], ["SFT", "B"]]


def test_curves_of_the_runs_lie_in_the_same_charts(two_runs: list[ComparedRun]) -> None:
    section = next(found for found in comparison_sections(two_runs) if found.id == "curves")
    charts = {block.title: block for block in section.blocks if isinstance(block, Chart)}
    assert {"Pretraining loss", "Held-out accuracy, greedy"} & set(charts) == {"Pretraining loss"}
    for chart in charts.values():
        assert [trace["name"] for trace in chart.spec["data"]] == ["A", "B"]
    assert charts["KL to the reference"].spec["data"][0]["x"][-1] == 60


def test_iterations_follow_one_another_on_one_axis(tmp_path: Path) -> None:
    made = []
    for name in ("grpo-1", "grpo-2"):
        for step in (1, 2, 3):
            MetricLog(tmp_path / name / "metrics.jsonl").log(step, kl=0.1)
        made.append(ReportArtifact(name, "grpo", name, tmp_path / name, {}, {}, {}, 1.0, False))
    records, begins = joined(made)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [(step, artifact.name) for step, artifact in begins] == [(1, "grpo-1"), (4, "grpo-2")]


def test_reward_models_and_corpus_are_figures_in_a_column_a_run(two_runs: list[ComparedRun]) -> None:
    rows = {row[0]: list(row[1:]) for row in table(two_runs, "metrics", 0).rows}
    assert rows["reward-1: AUC before"] == ["0.840", "0.840"]
    assert rows["reward-0: AUC"] == ["0.930", "0.930"]
    assert "reward-0: AUC before" not in rows


def test_the_page_says_which_artifacts_are_shared_and_where_the_runs_part(two_runs: list[ComparedRun]) -> None:
    section = next(found for found in comparison_sections(two_runs) if found.id == "shared")
    assert section.lead.startswith("6 artifacts are shared by all runs")
    why = {row[0]: list(row[1:]) for row in table(two_runs, "shared", 0).rows}
    assert why["sft"] == ["B", "sft.steps", "–"]
    assert why["grpo-1"] == ["B", "–", "policy, reward"]
    assert "pretrain" not in why
    keys = {row[0]: row[2] for row in table(two_runs, "shared", 1).rows}
    assert (keys["pretrain"], keys["sft"]) == ("as A", two_runs[1].by_name["sft"].key[:8])
    (drawn,) = [block for block in section.blocks if isinstance(block, Picture)]
    assert drawn.across.count('class="shared"') == 6
    assert drawn.across.count("<rect") == 6 + 2 * 9


def test_another_version_of_a_stage_and_other_files_are_causes_too(tmp_path: Path) -> None:
    made = []
    for name, version, digest in (("a", 1, "00"), ("b", 2, "11")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"version": version, "sources": [{"sha256": digest}]}))
        made.append(ReportArtifact("crawl", "crawl", name, tmp_path / name, {}, {}, {}, 1.0, False))
    assert why_apart(*made) == (["the stage's version", "files from outside the store"], [])


def test_the_page_is_whole_and_shows_hostile_text_as_text(two_runs: list[ComparedRun], tmp_path: Path) -> None:
    build_comparison([(run.record, run.artifacts) for run in two_runs], tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.attribute("section", "id") == ["runs", "scores", "curves", "metrics", "shared", "cost"]
    assert f"small{HOSTILE}" in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    places = {value for value in page.attribute("div", "id") if value and value.startswith("chart-")}
    assert set(json.loads(page.scripts[0])) == places


def test_more_runs_than_colours_are_refused(two_runs: list[ComparedRun], tmp_path: Path) -> None:
    many = [(two_runs[0].record, two_runs[0].artifacts)] * (MOST_RUNS + 1)
    with pytest.raises(MathQuarryError, match=f"at most {MOST_RUNS}"):
        build_comparison(many, tmp_path)
