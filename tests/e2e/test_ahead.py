"""GRPO with sampling one step ahead, from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.data.store.store import Store
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

AHEAD = ["--set", "grpo.rollout.ahead=1"]


def test_tiny_samples_ahead_and_its_rollouts_name_the_weights(command_line: CommandLine, finished_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    refused = command_line.run(*command_line.tiny(store, *AHEAD), status=1)
    assert "grpo.tis_cap is not set" in refused
    command_line.run(*command_line.tiny(store, *AHEAD, "--set", "grpo.tis_cap=2.0"))
    run = Store(store).runs()[-1]
    made = {stage["name"]: Store(store).get(stage["stage"], stage["key"]) for stage in run["stages"] if not stage["reused"]}
    for number in (1, 2):
        rows = pq.read_table(made[f"grpo-{number}"].path / "rollouts.parquet", columns=["step", "version"]).to_pylist()
        versions = {(row["step"], row["version"]) for row in rows}
        assert versions == {(step, f"iteration {number}, step {max(0, step - 2)}") for step in range(1, 5)}
