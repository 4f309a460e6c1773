"""How the pipeline chains stages: which artifact goes to which stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.registry import STAGES, dependents
from mathquarry.tasks.stage import StageResult


@dataclass
class Chain(Run):
    """A run that records the inputs of each stage, and makes nothing."""

    given: dict[str, list[Any]] = field(default_factory=dict)

    def stage(self, name: str, stage_flow: Flow[..., StageResult], *arguments: Any) -> str:
        self.given[name] = list(arguments)
        return f"ref of {name}"


def chain(tmp_path: Path, *overrides: str) -> Chain:
    recipe = load_recipe("tiny", list(overrides))
    run = Chain(str(tmp_path), recipe, None, frozenset(), lambda *_: None)
    assert Made(run, recipe).policy == "ref of sft"
    return run


def test_without_rejection_sampling_the_policy_learns_from_the_curated_examples_alone(tmp_path: Path) -> None:
    run = chain(tmp_path)
    assert list(run.given)[-2:] == ["curate", "sft"]
    assert run.given["sft"][1:] == ["ref of pretrain", "ref of curate", None]


def test_with_it_a_first_policy_samples_and_the_second_learns_from_both_kinds_of_examples(tmp_path: Path) -> None:
    run = chain(tmp_path, "rejection.enabled=true")
    assert list(run.given)[-4:] == ["curate", "sft-first", "rejection", "sft"]
    assert run.given["sft-first"][1:] == ["ref of pretrain", "ref of curate"]
    assert run.given["rejection"][1:] == ["ref of sft-first", "ref of problems", "ref of curate"]
    assert run.given["sft"][1:] == ["ref of pretrain", "ref of curate", "ref of rejection"]


@pytest.mark.parametrize("stage", ["curate", "rejection"])
def test_what_is_fine_tuned_on_is_made_again_before_fine_tuning(stage: str) -> None:
    assert {"sft", "reward", "grpo", "report"} <= dependents(stage) <= set(STAGES)
    assert "pretrain" not in dependents(stage)
