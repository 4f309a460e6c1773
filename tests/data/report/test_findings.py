"""The findings at the top of a report: real effects are named, noise is not, and the numbers match the tables."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathquarry.data.ledger.sql import ask
from mathquarry.data.report.build import build_report, make_opening, make_sections
from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Table
from mathquarry.data.report.sections.findings import findings
from mathquarry.data.report.sections.policies import evaluations
from mathquarry.data.report.sections.rl_trends import TITLE as TRENDS
from tests.data.report.report_planted import GRPO, answers, evaluated, flipped, iterated, write_rounds
from tests.data.report.report_run import HOSTILE, in_store, make_run
from tests.data.report.test_report import Page


def told(artifacts: Sequence[ReportArtifact]) -> list[str]:
    return [sentence.text for sentence in findings(artifacts)]


def run_of(folder: Path, *policies: list[bool], **iterations: ReportArtifact) -> list[ReportArtifact]:
    """SFT and as many RL iterations as there are further lists of answers."""
    names = ["evaluate-sft", *(f"evaluate-rl-{number}" for number in range(1, len(policies)))]
    return [*(evaluated(folder, name, right) for name, right in zip(names, policies, strict=True)), *iterations.values()]


def rising(over: float) -> float:
    return 0.5 + 0.06 * over


def falling(over: float) -> float:
    return 0.6 - 0.1 * over


def table(artifacts: Sequence[ReportArtifact], section: str, title: str) -> Table:
    found = next(found for found in make_sections({"stages": []}, artifacts) if found.id == section)
    (one,) = [block for block in found.blocks if block.title == title]
    assert isinstance(one, Table)
    return one


def test_a_policy_from_elsewhere_comes_before_its_fine_tuning(tmp_path: Path) -> None:
    names = {"evaluate-sft": 0.47, "evaluate-start": 0.03, "evaluate-rl-2": 0.63, "evaluate-rl-1": 0.55}
    made = [evaluated(tmp_path, name, answers(400, share)) for name, share in names.items()]
    assert [label for label, _ in evaluations(made)] == ["Start", "SFT", "RL 1", "RL 2"]
    assert told(made)[0].startswith("From SFT to RL iteration 2, greedy accuracy rose by 16.0")
    alone = [one for one in made if one.name in ("evaluate-sft", "evaluate-start")]
    assert told(alone) == [
        "Fine-tuning raised greedy accuracy by 44.0 ± 2.5 points (3.0 to 47.0 % of 400 questions; 176 answers gained, 0 lost)."
    ]
    assert told([one for one in made if one.name == "evaluate-start"])[0].startswith("The start policy answers 3.0")


def test_an_exploited_reward_model_is_named_with_the_answers_gained_and_lost(tmp_path: Path) -> None:
    first = answers(500, 0.926)
    made = run_of(
        tmp_path, answers(500, 0.65), first, flipped(first, 25, 44), one=iterated(tmp_path, 1), two=iterated(tmp_path, 2, reward=rising)
    )
    path, iteration, samples = told(made)
    # Of the 138 that iteration 1 gained none is lost again: the 44 are of those that SFT had right.
    assert path == (
        "From SFT to RL iteration 2, greedy accuracy rose by 23.8 ± 2.7 points (65.0 to 88.8 % of 500 questions; 163 answers "
        "gained, 44 lost)."
    )
    assert iteration.startswith(
        "RL iteration 2 lowered greedy accuracy by 3.8 ± 1.7 points (92.6 to 88.8 % of 500 questions; 25 answers gained, 44 lost), "
        "while the reward model's score rose by 0.047 ± 0.009: the reward model was exploited."
    )
    assert "Maj@8 rose" in samples


def test_a_reward_that_the_checker_gives_is_never_exploited(tmp_path: Path) -> None:
    first = answers(500, 0.9)
    rule = GRPO | {"paradigm": GRPO["paradigm"] | {"reward": "rule"}}
    made = run_of(tmp_path, first, flipped(first, 5, 60), one=iterated(tmp_path, 1, config=rule, reward=rising))
    (iteration, _) = told(made)
    assert "lowered greedy accuracy" in iteration
    assert ", while the reward rose by 0.0" in iteration
    assert "exploited" not in iteration


@pytest.mark.parametrize(("kinds", "by_model"), [(["rule"], False), (["function", "http"], False), (["model", "rule"], True)])
def test_of_several_rewards_one_has_to_be_a_model(kinds: list[str], by_model: bool, tmp_path: Path) -> None:
    first = answers(500, 0.9)
    config = GRPO | {"rewards": [{"kind": kind, "weight": 0.5} for kind in kinds]}
    made = run_of(tmp_path, first, flipped(first, 5, 60), one=iterated(tmp_path, 1, config=config, reward=rising))
    assert ("exploited" in told(made)[0]) == by_model


def test_a_reward_that_rises_with_the_right_completions_is_not_exploited_though_held_out_accuracy_falls(tmp_path: Path) -> None:
    first = answers(500, 0.9)
    made = run_of(tmp_path, first, flipped(first, 5, 60), one=iterated(tmp_path, 1, reward=rising, accuracy=rising))
    assert "and the share of correct training completions rose by" in told(made)[0]
    assert "exploited" not in told(made)[0]


def test_a_reward_that_rises_while_right_completions_become_fewer_is_exploited_even_where_held_out_accuracy_is_noise(
    tmp_path: Path,
) -> None:
    first = answers(500, 0.9)
    made = run_of(tmp_path, first, flipped(first, 20, 24), one=iterated(tmp_path, 1, reward=rising, accuracy=falling))
    assert told(made)[0].startswith("RL iteration 1 did not change greedy accuracy beyond noise: -0.8 ± 1.3 points")
    assert told(made)[0].endswith(": the reward model was exploited.")


def test_a_gain_is_reported(tmp_path: Path) -> None:
    before = answers(500, 0.6)
    made = run_of(tmp_path, before, flipped(before, 130, 10), one=iterated(tmp_path, 1, reward=rising, accuracy=rising))
    gain, samples = told(made)
    assert gain.startswith(
        "RL iteration 1 raised greedy accuracy by 24.0 ± 2.1 points (60.0 to 84.0 % of 500 questions; 130 answers gained, 10 lost)"
    )
    assert samples.endswith(
        "Pass@8's change is within noise (+0.0 ± 1.4 points): the policy gives answers more often that it could give before."
    )


def test_a_draw_is_called_noise(tmp_path: Path) -> None:
    before = answers(500, 0.6)
    (draw, samples) = told(run_of(tmp_path, before, flipped(before, 31, 33), one=iterated(tmp_path, 1)))
    assert draw == (
        "RL iteration 1 did not change greedy accuracy beyond noise: -0.4 ± 1.6 points (60.0 to 59.6 % of 500 questions; 31 answers "
        "gained, 33 lost)."
    )
    assert "rose" not in samples
    assert "fell" not in samples


def test_five_questions_that_all_become_right_are_still_noise(tmp_path: Path) -> None:
    # The standard error is zero; a fair coin gives five heads or five tails once in sixteen throws.
    made = run_of(tmp_path, [False] * 5, [True] * 5)
    assert told(made)[0].startswith("RL iteration 1 did not change greedy accuracy beyond noise: +100.0 ± 0.0 points")
    made = run_of(tmp_path / "six", [False] * 6, [True] * 6)
    assert told(made)[0].startswith("RL iteration 1 raised greedy accuracy by 100.0 ± 0.0 points")


def test_scores_without_answers_are_not_paired_and_say_so(tmp_path: Path) -> None:
    made = run_of(tmp_path, answers(500, 0.6), answers(500, 0.9))
    (made[0].path / "answers.parquet").unlink()
    assert told(made)[0] == "RL iteration 1 raised greedy accuracy by 30.0 ± 2.6 points (60.0 to 90.0 % of 500 questions, not paired)."
    del made[0].summary["greedy_se"]
    assert told(made)[0].startswith("RL iteration 1: greedy accuracy changed by +30.0 points, with unknown noise")


def test_of_many_iterations_the_last_ones_that_went_wrong_are_told_and_never_more_than_three_sentences(tmp_path: Path) -> None:
    levels = [0.5, 0.8, 0.6, 0.9, 0.7, 0.95]
    made = run_of(tmp_path, *(answers(1000, level) for level in levels))
    sentences = told(made)
    assert len(sentences) == 3
    assert sentences[0].startswith("From SFT to RL iteration 5, greedy accuracy rose by 45.0")
    assert [sentence[:22] for sentence in sentences[1:]] == ["RL iteration 2 lowered", "RL iteration 4 lowered"]


def test_other_runs_say_what_they_did(tmp_path: Path) -> None:
    assert told([]) == []
    one = [evaluated(tmp_path, "evaluate-sft", answers(500, 0.6)), write_rounds(tmp_path, 0.95)]
    assert told(one) == [
        "The fine-tuned policy answers 60.0 ± 2.2 % of 500 held-out questions correctly with greedy decoding.",
        "Mining collected 900 of 3,000 captured pages (350 k tokens, estimated) in 1 rounds, and removed 60 of 60 pages that quote a "
        "held-out question.",
    ]
    base = evaluated(tmp_path, "evaluate-base", answers(500, 0.0))
    assert told([base, one[0]])[0].startswith("Fine-tuning raised greedy accuracy by 60.0 ± 2.2 points (0.0 to 60.0 %")


def test_every_sentence_links_to_metrics_that_are_on_the_page(tmp_path: Path) -> None:
    run, artifacts = make_run(tmp_path / "store", HOSTILE)
    first = answers(500, 0.9)
    planted = run_of(
        tmp_path / "planted",
        first,
        flipped(first, 5, 300),
        one=iterated(
            tmp_path / "planted",
            1,
            reward=rising,
            accuracy=falling,
            entropy=lambda over: 0.3 * (1 - over) + 0.001,
            kl=1.4,
            completion_tokens=lambda over: 24 - 20 * over,
            truncated_share=0.3,
            groups_mixed=0.02,
            probe_mean=0.04,
            mismatch_mean=0.08,
        ),
    )
    for place, made in enumerate((artifacts, planted)):
        folder = tmp_path / str(place)
        folder.mkdir()
        build_report(run, made, folder)
        page = Page(folder / "report.html")
        opening = make_opening(run, made)
        assert opening.findings
        for sentence in [*opening.warnings, *opening.findings]:
            assert sentence.text in page.text
            assert sentence.links
        anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
        links = [str(href) for href in page.attribute("a", "href")]
        assert {href.removeprefix("#") for href in links} <= anchors
        titled = {link.title for sentence in [*opening.warnings, *opening.findings] for link in sentence.links if link.title}
        blocks = {block.title for section in make_sections(run, made) for block in section.blocks}
        assert titled <= blocks | {"Pass@K over K", "Maj@K over K"}, "a figure that a sentence links does not exist"
        assert HOSTILE not in " ".join(opening.lines)


def test_the_query_below_the_iterations_gives_the_numbers_of_their_table(tmp_path: Path) -> None:
    run, artifacts = make_run(tmp_path / "run")
    ledger, moved = in_store(tmp_path / "store", artifacts, run)
    found = table(moved, "rl", TRENDS)
    answer = ask(ledger, found.source.query)
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    assert len(rows) == 2 * (2 + 4)
    given = {(row["name"], row["metric"]): row for row in rows}
    for shown in found.rows:
        for column, metric in ((2, "reward"), (4, "accuracy")):
            row = given[shown[0], metric]
            assert shown[column] == f"{row['first']:.3f} to {row['last']:.3f}"
            assert shown[column + 1] == f"{row['change']:+.3f} ± {row['error']:.3f}"
        assert shown[6] == f"{given[shown[0], 'entropy']['at_the_end']:.3f}"
        assert shown[8] == f"{100 * given[shown[0], 'truncated_share']['at_the_end']:.1f} %"


@settings(max_examples=60, deadline=None)
@given(
    questions=st.integers(2, 60),
    data=st.data(),
    drift=st.floats(-0.02, 0.02),
)
def test_no_change_within_noise_is_ever_claimed_and_the_numbers_are_the_tables(questions: int, data: st.DataObject, drift: float) -> None:
    policies = [data.draw(st.lists(st.booleans(), min_size=questions, max_size=questions)) for _ in range(3)]
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        made = run_of(
            folder,
            *policies,
            one=iterated(folder, 1, reward=lambda over: 0.5 + drift * over),
            two=iterated(folder, 2, accuracy=lambda over: 0.5 + drift * over),
        )
        sentences = told(made)
        changed = {(row[0], row[1]): list(row) for row in table(made, "accuracy", "Changes from policy to policy").rows}
        trends = {row[0]: list(row) for row in table(made, "rl", TRENDS).rows}
    assert 1 <= len(sentences) <= 3
    for sentence in sentences:
        check_greedy(sentence, changed)
        check_trends(sentence, trends)


def check_greedy(sentence: str, changed: dict[tuple[str, str], list[str]]) -> None:
    """A claim about greedy accuracy is in the table, with the same numbers, and is more than two standard errors."""
    if path := re.match(r"From SFT to RL iteration 2, greedy", sentence):
        row = changed["SFT", "RL 2"]
    elif path := re.match(r"RL iteration (\d)", sentence):
        number = int(path[1])
        row = changed["SFT" if number == 1 else "RL 1", f"RL {number}"]
    else:
        return
    points, gained, lost, verdict = row[3:7]
    assert points.lstrip("+-") in sentence
    assert f"{gained} answers gained, {lost} lost" in sentence
    claimed = re.search(r"greedy accuracy (rose|fell)|(raised|lowered) greedy", sentence)
    if claimed is None:
        assert verdict == "within noise"
        assert points in sentence
        return
    value, error = (float(number) for number in points.split(" ± "))
    # The table has one decimal, so both may be off by a twentieth.
    assert abs(value) + 0.05 >= 2 * (error - 0.05)
    assert verdict == ("rose" if claimed[0] in ("greedy accuracy rose", "raised greedy") else "fell")
    assert (int(gained) - int(lost)) * value > 0
    assert abs(int(gained) - int(lost)) > (int(gained) + int(lost)) ** 0.5


def check_trends(sentence: str, trends: dict[str, list[str]]) -> None:
    """A claim about an iteration's reward or correct completions is in its table, and is more than two standard errors."""
    iteration = re.match(r"RL iteration (\d)", sentence)
    for words, column in (("the reward model's score", 3), ("correct training completions", 5)):
        if found := re.search(rf"{words} (rose|fell) by ([\d.]+ ± [\d.]+)", sentence):
            assert iteration
            shown = trends[f"RL {iteration[1]}"][column]
            assert shown == ("+" if found[1] == "rose" else "-") + found[2]
            value, error = (float(number) for number in shown.split(" ± "))
            assert abs(value) + 0.0005 >= 2 * (error - 0.0005)
    if "exploited" in sentence:
        assert "score rose by" in sentence
        assert "completions fell by" in sentence or "lowered greedy" in sentence


@pytest.mark.parametrize(("gained", "lost"), [(25, 44), (44, 25), (30, 30), (1, 0)])
def test_gained_and_lost_are_those_of_the_answers(gained: int, lost: int, tmp_path: Path) -> None:
    before = answers(500, 0.7)
    (row,) = table(run_of(tmp_path, before, flipped(before, gained, lost)), "accuracy", "Changes from policy to policy").rows
    assert list(row[3:6]) == [f"{(gained - lost) / 5:+.1f} ± {row[3].split(' ± ')[1]}", str(gained), str(lost)]
