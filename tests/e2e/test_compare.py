"""Training methods side by side, as a user runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data.store import Store
from tests.e2e.command_line import SMALL, CommandLine

pytestmark = pytest.mark.slow

FIELDS = [*SMALL, "compare.seeds=[0]", "compare.steps=2", "compare.evaluate_steps=1", "compare.evaluate_questions=8"]


def test_every_method_starts_from_one_policy_and_a_second_comparison_only_adds(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    options = ["compare", "tiny", "--store", str(store), *(part for field in FIELDS for part in ("--set", field))]
    few = ["--set", 'compare.methods=["rft", "grpo+os"]']
    command_line.run(*options, *few)
    before = {stage["key"] for stage in Store(store).runs()[-1]["stages"] if stage["stage"] != "report"}
    output = command_line.run(*options)
    run = Store(store).runs()[-1]
    stages = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert run["status"] == "completed"
    assert before <= set(stages.values())
    methods = ["sft", "rft", "online-rft", "dpo", "ppo", "grpo+os", "grpo+ps"]
    for method in methods:
        manifest = Store(store).get("grpo", stages[f"grpo-{method}-0"]).manifest
        assert manifest["inputs"]["policy"] == stages["sft"]
        assert manifest["summary"]["outputs"] == 2 * 4 * 4
    assert "online-rft-0" in output
    assert "Nothing to do" in command_line.run(*options)


def test_a_refreshed_and_a_frozen_reward_model_share_the_first_iteration_only(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    options = ["compare", "tiny", "rewards", "--store", str(store), *(part for field in FIELDS for part in ("--set", field))]
    output = command_line.run(*options)
    run = Store(store).runs()[-1]
    stages = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert run["status"] == "completed"
    inputs = {name: Store(store).get("grpo", key).manifest["inputs"] for name, key in stages.items() if name.startswith("grpo-")}
    assert set(inputs) == {"grpo-both-0-1", "grpo-refreshed-0-2", "grpo-frozen-0-2"}
    assert inputs["grpo-refreshed-0-2"]["policy"] == inputs["grpo-frozen-0-2"]["policy"] == stages["grpo-both-0-1"]
    assert inputs["grpo-refreshed-0-2"]["reward"] == stages["reward-0-1"]
    assert inputs["grpo-frozen-0-2"]["reward"] == inputs["grpo-both-0-1"]["reward"] == stages["reward-0-0"]
    assert "refreshed-0-2" in output
    assert "Nothing to do" in command_line.run(*options)
