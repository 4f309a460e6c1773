"""The warnings of a run: each appears if its cause is present, and a sound run has none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.sections.run_warnings import run_warnings
from tests.data.report.report_planted import GRPO, answers, evaluated, flipped, iterated, write_rounds


def warned(artifacts: Sequence[ReportArtifact], **run: Any) -> list[str]:
    return [sentence.text for sentence in run_warnings(run, artifacts)]


def sound(folder: Path) -> list[ReportArtifact]:
    before = answers(500, 0.6)
    return [
        write_rounds(folder, 0.95),
        evaluated(folder, "evaluate-base", answers(500, 0.0), finished=0.1),
        evaluated(folder, "evaluate-sft", before),
        ReportArtifact("reward-0", "reward", "r", folder, {}, {"auc": 0.9, "auc_within_question": 0.8}, {}, 700.0, False),
        iterated(folder, 1),
        evaluated(folder, "evaluate-rl-1", flipped(before, 60, 10)),
    ]


def test_a_sound_run_has_no_warnings(tmp_path: Path) -> None:
    assert warned(sound(tmp_path), status="completed") == []
    assert warned([]) == []


def test_a_failed_run_says_so_first(tmp_path: Path) -> None:
    assert warned(sound(tmp_path), status="failed")[0].startswith("This run failed")


def test_a_collapse_is_a_warning_and_a_fall_alone_is_not(tmp_path: Path) -> None:
    before = answers(500, 0.6)
    for share, expected in ((0.2, ["RL iteration 1 collapsed: greedy accuracy went from 60.0 to 20.0 %."]), (0.4, [])):
        folder = tmp_path / str(share)
        made = [evaluated(folder, "evaluate-sft", before), evaluated(folder, "evaluate-rl-1", answers(500, share))]
        assert warned(made) == expected


def test_a_collapse_over_iterations_is_not_laid_at_the_last_one(tmp_path: Path) -> None:
    made = [
        evaluated(tmp_path, name, answers(500, share))
        for name, share in (("evaluate-sft", 0.6), ("evaluate-rl-1", 0.2), ("evaluate-rl-2", 0.21))
    ]
    assert [sentence.partition(":")[0] for sentence in warned(made)] == ["RL iteration 1 collapsed"]


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"entropy": lambda over: 0.3 * (1 - over) ** 3 + 0.001}, "entropy fell from 0.2"),
        ({"completion_tokens": lambda over: 24 - 20 * over}, "completions shrank from 21.9 to 6.1 tokens"),
        (
            {"kl": lambda over: 1.6 * over},
            "the KL to the reference reached 1.43 nats a token; at 2 (grpo.collapse.largest_kl) the run stops",
        ),
        ({"truncated_share": 0.25}, "25.0 % of the completions in its last steps were truncated at 40 tokens"),
        ({"mismatch_mean": 0.08}, "engine and trainer differ by 8.0e-02 nats a token on the rollouts; grpo.probe_tolerance is 0.05"),
        ({"probe_mean": 0.03}, "engine and trainer differed by 3.0e-02 nats a token on the probe"),
        ({"groups_mixed": 0.05}, "only 5.0 % of the groups in its last steps had correct and wrong completions"),
    ],
)
def test_signs_of_trouble_in_an_iterations_steps_are_warned_of(metrics: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (sentence,) = warned([iterated(tmp_path, 2, **metrics)])
    assert sentence.startswith("RL iteration 2: ")
    assert expected in sentence


@pytest.mark.parametrize(
    "metrics",
    [
        {"entropy": lambda over: 0.3 - 0.2 * over},
        {"entropy": lambda over: 0.02 - 0.01 * over},
        {"completion_tokens": lambda over: 24 - 10 * over},
        {"kl": 0.9},
        {"truncated_share": 0.09},
        {"mismatch_mean": 0.04},
        {"probe_mean": 0.02},
        {"groups_mixed": 0.2},
        {"entropy": float("nan"), "kl": float("nan"), "truncated_share": float("nan")},
    ],
)
def test_what_is_usual_is_not_warned_of(metrics: dict[str, Any], tmp_path: Path) -> None:
    assert warned([iterated(tmp_path, 1, **metrics)]) == []


@pytest.mark.parametrize("config", [{}, {"collapse": None, "rollout": None, "paradigm": None, "probe_tolerance": None}])
def test_an_iteration_of_earlier_versions_without_limits_in_its_config_is_read(config: dict[str, Any], tmp_path: Path) -> None:
    assert warned([iterated(tmp_path, 1, config=config, kl=1.9, mismatch_mean=1.0)], plan=[]) == []


def test_answers_that_are_cut_off_are_warned_of_but_not_a_base_models(tmp_path: Path) -> None:
    made = [
        evaluated(tmp_path, "evaluate-base", answers(500, 0.0), finished=0.0),
        evaluated(tmp_path, "evaluate-sft", answers(500, 0.5), finished=0.7),
        evaluated(tmp_path, "evaluate-rl-1", answers(500, 0.5), finished=0.95),
    ]
    assert warned(made) == ["SFT: 30.0 % of the greedy answers were truncated at 40 tokens and count as wrong."]


def test_few_questions_are_warned_of_with_what_they_can_tell(tmp_path: Path) -> None:
    (sentence,) = warned([evaluated(tmp_path, "evaluate-sft", answers(60, 0.5)), evaluated(tmp_path, "evaluate-rl-1", answers(500, 0.5))])
    assert sentence.startswith("60 held-out questions are few: near 50 %, a score has a standard error of 6.5 points")
    assert warned([evaluated(tmp_path / "one", "evaluate-sft", [True])])[0].startswith("1 held-out question is few")


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ({"auc": 0.55, "auc_within_question": 0.52}, "its AUC on questions held out from its training is 0.550"),
        ({"auc": 0.8, "auc_within_question": 0.52}, "its AUC on answers to the same held-out question is 0.520"),
        ({"auc": 0.8, "auc_within_question": None}, None),
    ],
)
def test_a_reward_model_that_cannot_tell_is_warned_of(summary: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    found = warned([ReportArtifact("reward-1", "reward", "r", tmp_path, {}, summary, {}, 1.0, False)])
    assert [expected in sentence for sentence in found] == ([True] if expected else [])
    assert all(sentence.startswith("The reward model after RL iteration 1 hardly separates") for sentence in found)


@pytest.mark.parametrize(
    ("auc", "given", "expected"),
    [
        (0.7, [], ["The classifier of the last round does not separate well: its AUC on held-out pages is 0.700; 0.5 is guessing."]),
        (
            None,
            [],
            ["The classifier of the last round was not measured, since the seed has too few pages to hold some out. Check the pages."],
        ),
        (0.9, ["a", "b"], ["Mining gave 2 warnings about its rounds."]),
    ],
)
def test_an_unseparated_classifier_is_warned_of(auc: float | None, given: list[str], expected: list[str], tmp_path: Path) -> None:
    assert warned([write_rounds(tmp_path, auc, given)]) == expected


@pytest.mark.parametrize(
    ("gpu", "seconds", "planned", "stale"),
    [
        ("NVIDIA H200", 700.0, 900.0, True),
        ("NVIDIA H200", 700.0, 800.0, False),
        ("NVIDIA H200", 3600.0, 2000.0, True),
        ("NVIDIA H200", 300.0, 100.0, False),
        ("NVIDIA GeForce RTX 4090", 700.0, 2000.0, False),
        (None, 700.0, 2000.0, False),
    ],
)
def test_a_plan_that_is_off_for_the_gpu_of_a_stage_is_stale(
    gpu: str | None, seconds: float, planned: float, stale: bool, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"environment": {"gpus": [{"name": gpu}] if gpu else []}}))
    made = [ReportArtifact("grpo-1", "grpo", "g", tmp_path, {}, {}, {}, seconds, False)]
    found = warned(made, plan={"h200": {"grpo-1": planned, "sft": 9999.0}, "h100": {"grpo-1": seconds}})
    assert [sentence.startswith("The plan differs by more than 25 % on this machine: grpo-1 took ") for sentence in found] == [True] * stale
    assert warned(made) == []


def test_the_limits_of_collapse_come_from_the_runs_own_config(tmp_path: Path) -> None:
    assert warned([iterated(tmp_path, 1, kl=0.9, config=GRPO | {"collapse": {"largest_kl": 1.0}})])[0].startswith("RL iteration 1: the KL")
