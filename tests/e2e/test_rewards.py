"""Runs with a user's own rewards and with tools, from the command line: no reward model is trained, and all records are there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Store
from tests.e2e.command_line import CommandLine
from tests.models.rl.rewards.servers import Reply, served

pytestmark = pytest.mark.slow

FUNCTION = "docs.examples.my_rewards:length_penalty"


def count_digits(number: int, asked: dict[str, Any]) -> Reply:
    return 200, json.dumps({"rewards": [sum(map(str.isdigit, text)) for text in asked["completions"]]}).encode(), {}


def test_a_function_and_a_server_of_ones_own_are_values_in_the_recipe(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    function = f'{{kind = "function", function = "{FUNCTION}", arguments = {{longest = 9}}, weight = 0.5}}'
    with served(count_digits) as url:
        rewards = f'[{{kind = "rule"}}, {function}, {{kind = "http", url = "{url}", weight = 0.1}}]'
        fields = [f"grpo.rewards={rewards}", "grpo.supervision=outcome", "grpo.steps=2", "iterations=1"]
        command_line.run(*command_line.tiny(store, *set_to(fields)))
    run = Store(store).runs()[-1]
    made = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert "grpo-1" in made
    assert not any(name.startswith("reward") for name in made)
    rows = pq.read_table(Store(store).get("grpo", made["grpo-1"]).path / "rollouts.parquet").to_pylist()
    for row in rows:
        (penalty,), (digits,) = (dict(row["rewards"])[name] for name in ("length_penalty", "http"))
        assert digits == sum(map(str.isdigit, row["text"]))
        assert row["reward"] == pytest.approx(row["correct"] + 0.5 * penalty + 0.1 * digits)
    ledger = Ledger(Store(store))
    recorded = ledger.query("select name from metrics where key = ? and name like 'rewards/%' order by all", [made["grpo-1"]])
    assert {row["name"] for row in recorded} == {"rewards/http", "rewards/length_penalty", "rewards/rule"}
    assert ledger.query("select path from sources where key = ?", [made["grpo-1"]]) == [{"path": f"function:{FUNCTION}"}]
    missing = command_line.tiny(store, "--set", 'grpo.rewards=[{kind = "function", function = "no_such:f"}]', "--set", "iterations=1")
    output = command_line.run(*missing, "--set", "grpo.supervision=outcome", status=1)
    assert "there is no module `no_such`" in output
    assert "Traceback" not in output


def test_tiny_learns_from_dialogues_with_the_calculator(command_line: CommandLine, finished_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    paradigm = ["grpo.supervision=outcome", "grpo.paradigm.reward=rule", "grpo.steps=2", "iterations=1"]
    tools = ["grpo.format=tool", "grpo.tools.programs.sandbox=arithmetic"]
    command_line.run(*command_line.tiny(store, *set_to([*paradigm, *tools])))
    (stage,) = (stage for stage in Store(store).runs()[-1]["stages"] if stage["name"] == "grpo-1")
    made = Store(store).get("grpo", stage["key"])
    rows = pq.read_table(made.path / "rollouts.parquet").to_pylist()
    assert rows
    for row in rows:
        # Only the output of a program is not the model's own.
        assert len(row["mask"]) >= 1
        assert (0 in row["mask"]) == any(call["output"] for call in row["calls"])
    metrics = Ledger(Store(store)).query("select distinct name from metrics where key = ? and name like 'tool_%'", [stage["key"]])
    assert {row["name"] for row in metrics} >= {"tool_calls", "tool_share", "tool_tokens"}


def set_to(fields: list[str]) -> list[str]:
    """Options of the command line that set fields."""
    return [part for field in fields for part in ("--set", field)]
