"""The record of a run: the planned cost of its recipe, and the stage at work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from mathquarry.data.store.store import Store
from mathquarry.flows import recorded_run
from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.stages.evaluate import evaluate_flow
from mathquarry.flows.stages.imports import import_corpus_flow
from mathquarry.flows.stages.planned import planned_seconds, recipe_estimates
from mathquarry.flows.stages.reward import reward_refresh_flow
from mathquarry.models.hardware import GPUS
from mathquarry.tasks.stage import StageResult


def new_run(store: Path, recipe: str) -> Run:
    return Run(str(store), load_recipe(recipe), None, frozenset(), lambda name, made: None)


def test_a_runs_record_has_the_planned_seconds_of_each_stage_for_every_kind_of_gpu(tmp_path: Path) -> None:
    recipe = load_recipe("paper-7b")
    record = new_run(tmp_path, "paper-7b").record("running")
    assert json.loads(json.dumps(record))["plan"] == planned_seconds(recipe)
    assert set(record["plan"]) == set(GPUS)
    hours = {row.stage: row.hours for row in recipe_estimates(recipe, GPUS["h100"])}
    assert record["plan"]["h100"]["grpo-1"] == round(3600 * hours["grpo-1"], 1) > 0
    assert "mine" not in record["plan"]["h100"], "mining is planned elsewhere"


@pytest.mark.parametrize(
    ("name", "stage_flow", "stage"),
    [
        ("evaluate-rl-1", evaluate_flow, "evaluate"),
        ("reward-1", reward_refresh_flow, "reward"),
        ("import-corpus", import_corpus_flow, "import"),
    ],
)
def test_while_a_stage_works_the_record_has_its_name_and_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stage_flow: Flow[..., StageResult], stage: str
) -> None:
    seen: list[Any] = []

    def run_stage(*arguments: Any, **options: Any) -> StageResult:
        seen.append(Store(tmp_path).run(run.id)["at_work"])
        return StageResult(f"{stage}/0123", False, 1.0, {})

    monkeypatch.setattr(recorded_run, "run_stage", run_stage)
    run = new_run(tmp_path, "tiny")
    run.stage(name, stage_flow)
    assert seen == [{"name": name, "stage": stage}]
    assert Store(tmp_path).run(run.id)["at_work"] is None
