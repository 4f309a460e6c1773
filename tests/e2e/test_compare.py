"""Training methods side by side, as a user runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mathquarry.data.store.store import Store
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
    completion = command_line.run(*options)
    run = Store(store).runs()[-1]
    stages = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert run["status"] == "completed"
    assert before <= set(stages.values())
    methods = ["sft", "rft", "online-rft", "dpo", "ppo", "grpo+os", "grpo+ps"]
    for method in methods:
        manifest = Store(store).get("grpo", stages[f"grpo-{method}-0"]).manifest
        assert manifest["inputs"]["policy"] == stages["sft"]
        assert manifest["summary"]["completions"] == 2 * 4 * 4
    assert "online-rft-0" in completion
    assert "Nothing to do" in command_line.run(*options)


def test_a_refreshed_and_a_frozen_reward_model_share_the_first_iteration_only(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    options = ["compare", "tiny", "rewards", "--store", str(store), *(part for field in FIELDS for part in ("--set", field))]
    completion = command_line.run(*options)
    run = Store(store).runs()[-1]
    stages = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert run["status"] == "completed"
    inputs = {name: Store(store).get("grpo", key).manifest["inputs"] for name, key in stages.items() if name.startswith("grpo-")}
    assert set(inputs) == {"grpo-both-0-1", "grpo-refreshed-0-2", "grpo-frozen-0-2"}
    assert inputs["grpo-refreshed-0-2"]["policy"] == inputs["grpo-frozen-0-2"]["policy"] == stages["grpo-both-0-1"]
    assert inputs["grpo-refreshed-0-2"]["reward"] == stages["reward-0-1"]
    assert inputs["grpo-frozen-0-2"]["reward"] == inputs["grpo-both-0-1"]["reward"] == stages["reward-0-0"]
    assert "refreshed-0-2" in completion


def test_credit_reward_and_refresh_are_one_flow_that_goes_on_where_it_was_stopped(
    command_line: CommandLine, finished_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(finished_store, tmp_path / "store"))
    options = ["compare", "tiny", "credit", "--store", str(store), *(part for field in FIELDS for part in ("--set", field))]
    options += ["--set", 'compare.credits=["step-sum"]', "--set", 'compare.rewards=["process"]']
    command_line.run(*options, "--set", 'compare.reward_models=["frozen"]')
    before = {stage["key"] for stage in Store(store).runs()[-1]["stages"] if stage["stage"] != "report"}
    completion = command_line.run(*options)
    run = Store(store).runs()[-1]
    stages = {stage["name"]: stage["key"] for stage in run["stages"]}
    assert before < set(stages.values()), "what was made for the frozen arm is found"
    inputs = {name: Store(store).get("grpo", key).manifest["inputs"] for name, key in stages.items() if name.startswith("grpo-")}
    shared, frozen, refreshed = (
        f"grpo-step-sum+process+{model}-0-{number}" for model, number in (("shared", 1), ("frozen", 2), ("refreshed", 2))
    )
    assert inputs[frozen]["policy"] == inputs[refreshed]["policy"] == stages[shared]
    assert inputs[frozen]["reward"] == inputs[shared]["reward"] == stages["reward-process-0"]
    assert inputs[refreshed]["reward"] == stages["reward-step-sum+process+refreshed-0-2"]
    page = (Store(store).get("report", stages["report"]).path / "report.html").read_text(encoding="utf-8")
    assert "Greedy accuracy after the last iteration" in page
    assert "A refreshed reward model is better than a frozen one" in page
    assert "step-sum+process+refreshed-0-2" in completion
