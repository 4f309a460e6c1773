"""A pipeline looks up a stage's artifact without torch, which is not installed where it runs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from mathquarry.data.errors import NotMade
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.store.store import Identity, Store
from mathquarry.flows.stages.curate import curate_flow
from mathquarry.flows.stages.stage import _TASKS, find_artifact, is_being_made

EVERY_MODEL_STAGE = """
import sys

sys.modules["torch"] = sys.modules["transformers"] = None

from mathquarry.data.store.store import Identity, Store
from mathquarry.flows.stages import evaluate, grpo, pretrain, rejection, reward, sft
from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.stages.stage import _TASKS, find_artifact

store, recipe = Store(sys.argv[1]), load_recipe("tiny", [])
made = {stage: store.build(Identity(stage, 1, {}, {}, ()), lambda workspace: {}) for stage in ("problems", "mine", "curate")}
inputs = {stage: f"{stage}/{artifact.key}" for stage, artifact in made.items()}
build = Store.build
Store.build = lambda self, identity, work, **options: build(self, identity, lambda workspace: {}, **options)

def made_then_found(flow, **arguments):
    arguments = {"store": sys.argv[1], **arguments}
    assert find_artifact(flow, arguments) is None, flow.name
    made = _TASKS[flow.name].fn(**arguments)
    found = find_artifact(flow, arguments)
    assert found is not None and found.reused and found.ref == made.ref, flow.name
    assert find_artifact(flow, {**arguments, "mode": "rebuild"}) is None
    return made.ref

problems, mine, examples = inputs["problems"], inputs["mine"], inputs["curate"]
base = made_then_found(pretrain.pretrain_flow, model=recipe.model, config=recipe.pretrain, corpus=mine, problems=problems)
policy = made_then_found(sft.sft_flow, config=recipe.sft, base=base, examples=examples)
made_then_found(rejection.rejection_flow, config=recipe.rejection, policy=policy, problems=problems, examples=examples)
made_then_found(evaluate.evaluate_flow, config=recipe.evaluate, policy=policy, problems=problems)
reward_model = made_then_found(reward.reward_flow, config=recipe.reward, start=base, policy=policy, problems=problems)
refresh = {"config": recipe.reward, "refresh": recipe.refresh, "history": [reward_model], "iteration": 1}
made_then_found(reward.reward_refresh_flow, policy=policy, problems=problems, **refresh)
made_then_found(grpo.grpo_flow, config=recipe.grpo, policy=policy, reward=reward_model, problems=problems, iteration=1)
"""


def test_every_stage_with_a_model_is_looked_up_without_its_libraries(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_MODEL_STAGE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stage_whose_inputs_are_not_there_is_left_to_its_own_run(tmp_path: Path) -> None:
    arguments = {"store": str(tmp_path), "config": CurateConfig(), "problems": f"problems/{'0' * 20}"}
    assert find_artifact(curate_flow, arguments) is None
    problems = Store(tmp_path).build(Identity("problems", 1, {}, {}, ()), lambda workspace: {})
    assert find_artifact(curate_flow, {**arguments, "problems": f"problems/{problems.key}"}) is None


def test_a_stage_is_seen_to_be_made_by_the_lock_of_its_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    problems = store.build(Identity("problems", 1, {}, {}, ()), lambda workspace: {})
    arguments = {"store": str(tmp_path), "config": CurateConfig(), "problems": f"problems/{problems.key}"}
    assert not is_being_made(curate_flow, arguments)
    with pytest.raises(NotMade) as missing:
        _TASKS["curate"].fn(**arguments, mode="require")
    room = tmp_path / "work" / missing.value.key
    room.mkdir(parents=True)
    with (room / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert is_being_made(curate_flow, arguments)
    assert not is_being_made(curate_flow, arguments)
