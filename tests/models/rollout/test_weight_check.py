"""The check of the engine's weights after a sync: a missing sync is found after one step at the paper's learning rate."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.ranks.distributed import Ranks
from mathquarry.models.rl import grpo
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rollout import sync
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.hf import TransformersEngine
from mathquarry.models.rollout.make import make_engine
from mathquarry.models.rollout.weight_check import check_weights, project
from tests.models.rl.tiny import save_policy, save_problems, save_reward, tiny_policy

CONFIG = RolloutConfig(max_tokens=12)


def test_the_projection_of_stacked_matrices_is_the_sum_of_theirs() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(rows, 24) for rows in (8, 3, 1500)]
    first_rows = (0, 8, 11)
    together = sum(project(part, first) for part, first in zip(parts, first_rows, strict=True))
    assert project(torch.cat(parts)) == pytest.approx(together, rel=1e-12)
    # Exchanged parts are another matrix.
    assert abs(project(torch.cat(parts[::-1])) - together) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_step_at_the_papers_rate_that_did_not_arrive_is_found(dtype: torch.dtype) -> None:
    trained = tiny_policy()
    engine = TransformersEngine(CONFIG, copy.deepcopy(trained).to(dtype))
    assert check_weights(engine, trained, Ranks.current(), "start") == len(list(trained.parameters()))
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-6)
    trained(torch.arange(3, 30)[None]).logits.square().mean().backward()
    optimizer.step()
    with pytest.raises(MathQuarryError, match="after the sync to step 1, the engine does not hold the weights that it was sent"):
        check_weights(engine, trained, Ranks.current(), "step 1")
    engine.load_live(copy.deepcopy(trained).to(dtype), "step 1")
    check_weights(engine, trained, Ranks.current(), "step 1")


def test_a_single_weight_that_differs_is_found_and_named() -> None:
    trained = tiny_policy()
    engine = TransformersEngine(CONFIG, copy.deepcopy(trained))
    with torch.no_grad():
        engine.model.model.layers[1].mlp.down_proj.weight[3, 5] += 1e-6
    with pytest.raises(MathQuarryError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        check_weights(engine, trained, Ranks.current(), "start")


def test_an_engine_on_the_trainers_own_module_has_nothing_to_compare() -> None:
    trained = tiny_policy()
    assert check_weights(TransformersEngine(CONFIG, trained), trained, Ranks.current(), "start") == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_whose_syncs_do_nothing_stops_at_its_first_step(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The engine has a copy of its own that never hears of an update.
    monkeypatch.setattr(grpo, "make_engine", lambda config, folder, **_: make_engine(config, folder))
    monkeypatch.setattr(sync.WeightSync, "hand_over", lambda self, policy, version: None)
    config = GRPOConfig(
        steps=2,
        prompts_per_step=2,
        group_size=4,
        learning_rate=1e-6,
        precision=precision,
        rollout=CONFIG,
        probe_tolerance=5.0,
    )
    policy, reward, problems = save_policy(tmp_path / "policy"), save_reward(tmp_path / "reward"), save_problems(tmp_path / "problems", 6)
    with pytest.raises(MathQuarryError, match="after the sync to iteration 1, step 1"):
        grpo.grpo_iteration(config, policy, reward, problems, 1, Workspace.at(tmp_path / "space"))
