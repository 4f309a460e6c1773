"""The page about a run that has not ended."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.report.running import Snapshot, making_of, running_page, snapshot
from mathquarry.data.store.making import being_made
from mathquarry.data.store.store import Store
from tests.data.report.running import HOSTILE, AtWork, at_work, make, record, running


def page(store: Store, run: dict[str, Any]) -> str:
    making = making_of(store, run)
    with snapshot(making, run["at_work"]["name"]) if making else nullcontext() as now:
        return running_page(run, [], now, "version-1")


def test_the_stage_at_work_is_shown_with_its_curves_its_newest_metrics_and_completions(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo):
        text = page(store, record(store, made, "grpo-1"))
        assert "Running: grpo-1" in text
        assert "logged 2 steps" in text
        assert '"y":[0.125,0.25]' in text
        assert "The answer of step 1" in text
        assert "The answer of step 2" in text
        grpo.log(3, reward=0.5, accuracy=0.25)
        assert '"y":[0.125,0.25,0.5]' in page(store, record(store, made, "grpo-1"))


def test_what_a_model_wrote_cannot_run_in_the_page(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, _):
        text = page(store, record(store, made, "grpo-1"))
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<img" not in text
    assert "default-src &#39;none&#39;" in text


def test_a_page_asks_for_a_newer_version_only_while_the_run_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, _):
        going_on = page(store, record(store, made, "grpo-1"))
        between = page(store, record(store, made, None))
        ended = page(store, record(store, made, None, "completed"))
        failed = page(store, record(store, made, None, "failed"))
    for text in (going_on, between):
        assert 'data-version="version-1"' in text
        assert "connect-src &#39;self&#39;" in text
    for text in (ended, failed):
        assert "data-version" not in text
        assert "connect-src" not in text
    assert "No stage is running" in between
    assert "The run has ended" in ended
    assert "The run has failed" in failed


def test_a_run_of_which_nothing_is_made_has_a_page(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert "Stage problems is running" in page(store, record(store, {}, "problems"))


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo):
        grpo.log(3, reward=math.nan, accuracy=math.inf, kl=0.004)
        text = page(store, record(store, made, "grpo-1"))
    assert '"y":[0.125,0.25]' in text
    assert "0.0040" in text


def test_a_line_that_is_being_written_is_left_for_the_next_page(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo):
        with (grpo.scratch / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "ti')
        assert "logged 2 steps" in page(store, record(store, made, "grpo-1"))


def test_of_two_stages_at_work_the_run_has_the_one_with_its_config_and_its_inputs(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo):
        run = record(store, made, "grpo-1")
        other_config = AtWork(store, {"steps": 10}, policy=made["sft"], problems=made["problems"])
        others_policy = make(store, "sft", {"loss": 0.4})
        other_policy = AtWork(store, {"steps": 9}, policy=others_policy, problems=made["problems"])
        try:
            assert {making.key for making in being_made(store.root)} == {grpo.key, other_config.key, other_policy.key}
            assert (found := making_of(store, run)) is not None
            assert found.key == grpo.key
            assert making_of(store, run | {"at_work": at_work("evaluate-rl-1")}) is None
        finally:
            other_config.end()
            other_policy.end()


def test_a_stage_that_was_killed_is_not_at_work(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo):
        run = record(store, made, "grpo-1")
        content = (store.root / "work" / grpo.key / "making.json").read_bytes()
    left = store.root / "work" / grpo.key
    left.mkdir()
    (left / "making.json").write_bytes(content)
    (left / "lock").touch()
    assert making_of(store, run) is None


def test_a_stage_that_ends_meanwhile_is_said_to_be_gone(tmp_path: Path) -> None:
    with running(tmp_path) as (store, made, grpo):
        making = making_of(store, record(store, made, "grpo-1"))
        assert making is not None
        grpo.end()
        with pytest.raises(FileNotFoundError), snapshot(making, "grpo-1") as now:
            assert isinstance(now, Snapshot)
