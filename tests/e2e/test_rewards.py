"""A run with a user's own reward, from the command line: no reward model is trained, and all records of the reward are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store
from tests.e2e.command_line import CommandLine

pytestmark = pytest.mark.slow

FUNCTION = "docs.examples.my_rewards:length_penalty"


def test_a_function_of_ones_own_is_a_value_in_the_recipe(command_line: CommandLine, finished_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    rewards = f'[{{kind = "rule"}}, {{kind = "function", function = "{FUNCTION}", arguments = {{longest = 9}}, weight = 0.5}}]'
    fields = [f"grpo.rewards={rewards}", "grpo.supervision=outcome", "grpo.steps=2", "iterations=1"]
    command_line.run(*command_line.tiny(store, *(part for field in fields for part in ("--set", field))))
    run = Store(store).runs()[-1]
    made = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert "grpo-1" in made
    assert not any(name.startswith("reward") for name in made)
    rows = pq.read_table(Store(store).get("grpo", made["grpo-1"]).path / "rollouts.parquet").to_pylist()
    assert all(row["reward"] == pytest.approx(0.5 * dict(row["rewards"])["length_penalty"][0] + row["correct"]) for row in rows)
    ledger = Ledger(Store(store))
    recorded = ledger.query("select name from metrics where key = ? and name like 'rewards/%' order by all", [made["grpo-1"]])
    assert {row["name"] for row in recorded} == {"rewards/length_penalty", "rewards/rule"}
    assert ledger.query("select path from sources where key = ?", [made["grpo-1"]]) == [{"path": f"function:{FUNCTION}"}]
    missing = command_line.tiny(store, "--set", 'grpo.rewards=[{kind = "function", function = "no_such:f"}]', "--set", "iterations=1")
    output = command_line.run(*missing, "--set", "grpo.supervision=outcome", status=1)
    assert "there is no module `no_such`" in output
    assert "Traceback" not in output
