"""The record of a run contains the planned cost of its recipe."""

from __future__ import annotations

import json
from pathlib import Path

from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.stages.planned import planned_seconds, recipe_estimates
from mathquarry.models.hardware import GPUS


def test_a_runs_record_has_the_planned_seconds_of_each_stage_for_every_kind_of_gpu(tmp_path: Path) -> None:
    recipe = load_recipe("paper-7b")
    record = Run(str(tmp_path), recipe, None, frozenset(), lambda name, made: None).record("running")
    assert json.loads(json.dumps(record))["plan"] == planned_seconds(recipe)
    assert set(record["plan"]) == set(GPUS)
    hours = {row.stage: row.hours for row in recipe_estimates(recipe, GPUS["h100"])}
    assert record["plan"]["h100"]["grpo-1"] == round(3600 * hours["grpo-1"], 1) > 0
    assert "mine" not in record["plan"]["h100"], "mining is planned elsewhere"
