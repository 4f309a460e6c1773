"""GRPO with vLLM on a CPU: dialogues with tools, and sampling one step ahead.

In a module of its own: an engine that is already open would be taken for a rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from tests.models.rl.guesser import TOOL, save_guesser

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ENGINE = {"engine": "vllm", "max_tokens": 80, "kv_cache_gib": 0.1, "batch_completions": 16}
STEPS = {"steps": 3, "prompts_per_step": 4, "group_size": 4, "learning_rate": 1e-3, "probe_tolerance": 1e-3, "checkpoint_steps": 3}


@pytest.fixture(scope="module")
def guesser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention on a CPU has no heads below 32.
    return save_guesser(tmp_path_factory.mktemp("guesser"), heads=2)


def iterated(folder: Path, guesser: Path, fields: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the rollout table and the metrics of each step."""
    workspace = Workspace.at(folder)
    config = GRPOConfig.model_validate({**TOOL, **STEPS, **fields})
    grpo_iteration(config, guesser / "policy", None, guesser, 1, workspace)
    return pq.read_table(workspace.out / "rollouts.parquet").to_pylist(), [record["values"] for record in workspace.metrics.read()]


def test_dialogues_are_sampled_to_the_token(guesser: Path, tmp_path: Path) -> None:
    """The trainer gives every token that vLLM drew, also those after a program's output, the probability that vLLM had for it."""
    rows, metrics = iterated(tmp_path, guesser, {"rollout": ENGINE})
    assert all(values["tool_share"] > 0 for values in metrics)
    assert all(values["mismatch_largest"] < 1e-3 and values["weights_compared"] > 0 for values in metrics)
    assert all((0 in row["mask"]) == bool(row["calls"]) for row in rows if row["finished"])
    assert any(row["correct"] and row["calls"] for row in rows)


def test_the_next_step_is_sampled_with_the_weights_before_the_update(guesser: Path, tmp_path: Path) -> None:
    rows, metrics = iterated(tmp_path, guesser, {"format": "cot", "tis_cap": 2.0, "rollout": {**ENGINE, "ahead": 1}})
    assert [(row["step"], row["version"]) for row in rows[::16]] == [
        (1, "iteration 1, step 0"),
        (2, "iteration 1, step 0"),
        (3, "iteration 1, step 1"),
    ]
    first, *others = [values["mismatch_largest"] for values in metrics]
    assert first < 1e-3 < 1e-2 < min(others)
    assert all(values["weights_compared"] > 0 and values["probe_largest"] < 1e-3 for values in metrics)
