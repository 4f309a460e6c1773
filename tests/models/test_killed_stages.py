"""Stages with weights, killed by SIGKILL at a random step and run again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mathquarry.data.store.workspace import Workspace
from tests.models.stage_work import STEPS, Stage, make_inputs, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward"])
def test_a_stage_killed_at_a_random_step_ends_with_the_bytes_of_an_uninterrupted_one(inputs: Path, tmp_path: Path, stage: Stage) -> None:
    step = random.SystemRandom().randint(1, STEPS[stage])
    command = [sys.executable, "-m", "tests.models.stage_work", stage, str(inputs), str(tmp_path / "killed"), str(step)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL, f"in step {step}"
    workspaces = [Workspace.at(tmp_path / name) for name in ("killed", "whole")]
    for workspace in workspaces:
        run(stage, inputs, workspace)
    killed, whole = ({path.name: path.read_bytes() for path in (workspace.out / "model").iterdir()} for workspace in workspaces)
    assert killed.keys() == whole.keys()
    assert [name for name, content in whole.items() if killed[name] != content] == [], f"killed in step {step}"
    losses = [[record["values"].get("loss") for record in workspace.metrics.read()] for workspace in workspaces]
    assert losses[0] == losses[1]
