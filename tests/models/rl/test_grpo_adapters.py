"""RL with adapters: the reference is the policy without them, and runs are resumed, chained and shared as others are."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

import mathquarry.models.rl.loop as loop
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.logprobs.logprobs import completion_logprobs
from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.adapters import Unadapted, add_adapters, merged_weights
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.policy.config import LoRAConfig
from mathquarry.models.policy.merge import merge
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.distributed import ShardedModel
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rl.config import METHODS, GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rl.update import make_optimizer, sequence_logprobs, update_policy
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.rank_work import adapter_step
from tests.models.rl.test_ranks import EXPERIENCE
from tests.models.rl.tiny import save_policy, save_problems, save_reward, tiny_policy

LORA = LoRAConfig(rank=4, alpha=8)
CONFIG = GRPOConfig(
    steps=3,
    prompts_per_step=3,
    group_size=4,
    num_updates=2,
    learning_rate=1e-2,
    micro_batch_tokens=256,
    precision="float32",
    rollout=RolloutConfig(max_tokens=12),
    probe_tolerance=1e-4,
    checkpoint_steps=2,
    lora=LORA,
)
Inputs = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 20)


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict]:
    workspace = Workspace.at(tmp_path_factory.mktemp("whole"))
    return workspace, grpo_iteration(CONFIG, *inputs, 1, workspace)


def test_updates_against_the_policy_without_adapters_are_those_against_a_copy_of_the_start() -> None:
    found = []
    for copied in (True, False):
        policy = ShardedModel(add_adapters(tiny_policy(0), LORA, seed=0), completion_logprobs)
        reference: ShardedModel = ShardedModel(tiny_policy(0).requires_grad_(False), completion_logprobs) if copied else Unadapted(policy)
        optimizer = make_optimizer(policy, CONFIG)
        metrics = [update_policy(policy, reference, optimizer, EXPERIENCE, CONFIG) for _ in range(3)]
        logprobs = sequence_logprobs(reference, EXPERIENCE.prompts, EXPERIENCE.completions, CONFIG)
        found.append((metrics, merged_weights(policy.model)["model.layers.0.mlp.up_proj.weight"], torch.cat(logprobs)))
    (ours, weights, logprobs), (theirs, same, others) = found
    assert ours == theirs
    assert ours[-1]["kl"] > 1e-4
    assert torch.equal(weights, same)
    assert torch.equal(logprobs, others)


def test_no_second_copy_of_the_policy_is_held(inputs: Inputs) -> None:
    models = Models.load(CONFIG, *inputs[:2])
    assert models.reference.model is models.policy.model
    trained = {id(parameter) for group in models.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in models.policy.parameters() if parameter.requires_grad}


def test_the_checkpoint_holds_adapters_and_the_summary_says_so(inputs: Inputs, whole: tuple[Workspace, dict]) -> None:
    workspace, summary = whole
    assert is_adapted(workspace.out / "model")
    assert (workspace.out / "model" / "base" / "model.safetensors").samefile(inputs[0] / "model.safetensors")
    assert summary["lora_rank"] == 4
    assert summary["last_kl"] > 0
    before, after = (load_policy(folder).state_dict() for folder in (inputs[0], workspace.out / "model"))
    assert len([name for name in after if not torch.equal(after[name], before[name])]) == 2 * 7


@pytest.mark.parametrize("killed_in", [1, 3])
def test_a_killed_and_resumed_iteration_of_adapters_ends_with_the_same_bytes(
    killed_in: int, inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.at(tmp_path)
    update, calls = loop.update_policy, []

    def dies(*arguments: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == killed_in:
            raise KeyboardInterrupt
        return update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "update_policy", dies)
    with pytest.raises(KeyboardInterrupt):
        grpo_iteration(CONFIG, *inputs, 1, workspace)
    monkeypatch.setattr(loop, "update_policy", update)
    assert grpo_iteration(CONFIG, *inputs, 1, workspace) == whole[1]
    for name in ("model/adapter_model.safetensors", "model/adapter_config.json", "rollouts.parquet"):
        assert (workspace.out / name).read_bytes() == (whole[0].out / name).read_bytes()


def test_the_next_iteration_starts_from_merged_weights_which_are_its_reference(
    inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path
) -> None:
    merge(whole[0].out / "model", tmp_path / "merged")
    workspaces = [Workspace.at(tmp_path / name) for name in ("chained", "plain")]
    for workspace, start in zip(workspaces, (whole[0].out / "model", tmp_path / "merged"), strict=True):
        grpo_iteration(CONFIG.model_copy(update={"num_updates": 1}), start, *inputs[1:], 2, workspace)
        assert workspace.metrics.read()[0]["values"]["kl"] == pytest.approx(0.0, abs=1e-9)
    chained, plain = (load_policy(workspace.out / "model").state_dict() for workspace in workspaces)
    assert all(torch.equal(chained[name], plain[name]) for name in plain)


def test_methods_that_sample_from_the_start_do_so_with_adapters_too(inputs: Inputs, tmp_path: Path) -> None:
    completions = []
    for lora in (LORA, LoRAConfig()):
        workspace = Workspace.at(tmp_path / str(lora.rank))
        config = CONFIG.model_copy(update={"paradigm": METHODS["rft"].model_copy(update={"reward": "model"}), "lora": lora})
        grpo_iteration(config, *inputs, 1, workspace)
        completions.append(pq.read_table(workspace.out / "rollouts.parquet")["completion"].to_pylist())
    assert completions[0] == completions[1]


def test_the_best_policy_of_a_run_is_kept_as_adapters(inputs: Inputs, tmp_path: Path) -> None:
    problems = save_problems(tmp_path / "problems", 12)
    (problems / "test.jsonl").write_bytes((problems / "train.jsonl").read_bytes())
    workspace = Workspace.at(tmp_path / "grpo")
    config = CONFIG.model_copy(update={"keep": "best", "evaluate_steps": 1, "evaluate_questions": 4})
    summary = grpo_iteration(config, *inputs[:2], problems, 1, workspace)
    assert "kept_step" in summary
    assert is_adapted(workspace.out / "model")
    assert (workspace.out / "model" / "base" / "model.safetensors").samefile(inputs[0] / "model.safetensors")
    load_policy(workspace.out / "model")


def test_ppos_value_model_is_trained_by_adapters_too(inputs: Inputs, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    config = CONFIG.model_copy(update={"paradigm": METHODS["ppo"]})
    summary = grpo_iteration(config, *inputs, 1, workspace)
    assert summary["lora_rank"] == 4
    models = Models.load(config, *inputs[:2])
    assert models.critic is not None
    names = {name for name, parameter in models.critic.model.named_parameters() if parameter.requires_grad}
    assert "score.weight" in names
    assert all(".lora_" in name for name in names if not name.startswith("score."))


def test_weights_beside_adapters_stay_float32_where_the_trainers_own_module_generates(inputs: Inputs) -> None:
    config = CONFIG.model_copy(update={"precision": "bfloat16"})
    assert Models.load(config, *inputs[:2]).policy.model.dtype == torch.float32
    served = config.model_copy(update={"rollout": RolloutConfig(engine="vllm")})
    assert Models.load(served, *inputs[:2]).policy.model.lm_head.weight.dtype == torch.bfloat16


def test_dropout_and_a_handover_of_no_adapters_are_refused() -> None:
    with pytest.raises(ValidationError, match="without dropout: set it to 0"):
        GRPOConfig(lora=LoRAConfig(rank=4, dropout=0.1))
    with pytest.raises(ValidationError, match="there are no adapters"):
        GRPOConfig(rollout=RolloutConfig(engine="vllm", handover="adapter"))
    with pytest.raises(ValidationError, match="needs engine `vllm`"):
        RolloutConfig(handover="adapter")


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.02)])
def test_two_ranks_take_the_step_of_one(precision: str, tolerance: float, tmp_path: Path) -> None:
    """On the same completions; the gradient's norm is that of all adapters."""
    config = CONFIG.model_copy(update={"precision": precision, "num_updates": 1, "micro_batch_tokens": 16})
    one = adapter_step(Workspace.at(tmp_path / "one"), EXPERIENCE, config)
    two = launch(adapter_step, (EXPERIENCE, config), RanksConfig(processes=2), Workspace.at(tmp_path / "two"), "update")
    assert one["kl"] > 0.01
    for name in ("loss", "kl", "gradient_norm"):
        assert two[name] == pytest.approx(one[name], rel=tolerance), name


@pytest.mark.slow
@pytest.mark.parametrize("handover", ["shared", "folder"])
def test_an_iteration_of_adapters_on_two_ranks_is_that_of_one(handover: str, inputs: Inputs, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 2, "rollout": CONFIG.rollout.model_copy(update={"handover": handover})})
    one, two = (Workspace.at(tmp_path / name) for name in ("one", "two"))
    grpo_iteration(config, *inputs, 1, one)
    grpo_iteration(config.model_copy(update={"ranks": RanksConfig(processes=2)}), *inputs, 1, two)
    for ours, theirs in zip(two.metrics.read(), one.metrics.read(), strict=True):
        for name in ("loss", "reward", "gradient_norm", "entropy", "kl"):
            assert ours["values"][name] == pytest.approx(theirs["values"][name], rel=1e-3, abs=1e-5), name
        assert ours["values"]["weights_compared"] == 21  # merged, in each rank's engine
    ours, theirs = (load_policy(workspace.out / "model").state_dict() for workspace in (two, one))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=1e-3, atol=1e-4)
