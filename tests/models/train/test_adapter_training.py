"""Training of adapters: what changes, resuming, ranks, and the stages whose checkpoints contain them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.example import write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.adapters import add_adapters, merged_weights
from mathquarry.models.policy.checkpoint import load_policy, load_reward
from mathquarry.models.policy.config import LoRAConfig
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.reward.config import RefreshConfig
from mathquarry.models.reward.stage import refresh_reward, train_reward
from mathquarry.models.train.config import PretrainConfig, ScheduleConfig, SFTConfig, TrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.packing import Epochs, pack
from mathquarry.models.train.pretrain import pretrain
from mathquarry.models.train.sft import finetune
from mathquarry.models.train.speed import flops_per_token
from tests.models.rank_work import small_model
from tests.models.reward.test_reward_stage import CONFIG as REWARD
from tests.models.reward.test_reward_stage import writes_seven
from tests.models.rl.tiny import ScriptedEngine, save_policy, save_problems, tiny_policy
from tests.models.train.test_pretrain_sft import TINY, corpus, examples, pretrain_config, problems  # noqa: F401 - fixtures
from tests.models.train.test_train import some_examples

LORA = LoRAConfig(rank=4, alpha=8)
CONFIG = TrainConfig(
    learning_rate=1e-2,
    batch_tokens=3 * 16,
    context_tokens=16,
    precision="float32",
    checkpoint_steps=2,
    schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    lora=LORA.model_copy(update={"dropout": 0.2}),
)
ROWS = Epochs(pack(some_examples(40), 16, 0), 0)


class Killed(Exception):
    """Raised in a loss, at a point where a process might end."""


class FailingLoss:
    """The real loss, until its `at`-th call."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, *arguments: object) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise Killed
        return language_model_loss(*arguments)  # type: ignore[arg-type]


def trained(workspace: Workspace, config: TrainConfig, steps: int = 6) -> tuple[torch.nn.Module, dict]:
    model = small_model(0)
    return model, fit(model, ROWS, config, steps, workspace, "train", language_model_loss)


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_adapters_learn_and_nothing_else_changes(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    model = tiny_policy(0)
    result = fit(model, ROWS, CONFIG, 30, workspace, "train", language_model_loss)
    before = tiny_policy(0).state_dict()
    for name, weights in model.state_dict().items():
        if ".lora_" not in name:
            assert torch.equal(weights, before[name.replace(".base_layer", "")]), name
    assert all(weights.abs().max() > 0 for weights in trained_weights(model).values())
    assert result["loss"] < 0.9 * workspace.metrics.read()[0]["values"]["loss"]


def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, _ = trained(Workspace.at(tmp_path / "whole"), CONFIG)
    workspace = Workspace.at(tmp_path / "cut")
    with pytest.raises(Killed):
        fit(small_model(0), ROWS, CONFIG, 6, workspace, "train", FailingLoss(3 * 5))
    assert [path.name for path in (workspace.scratch / "train").glob("checkpoint-*")] == ["checkpoint-4"]
    again, _ = trained(workspace, CONFIG)
    for name, weights in trained_weights(whole).items():
        assert torch.equal(trained_weights(again)[name], weights), name


def test_a_checkpoint_on_the_way_holds_adapters_and_their_moments_alone(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    trained(workspace, CONFIG, 2)
    held = FileSystemReader(workspace.scratch / "train" / "checkpoint-2").read_metadata().state_dict_metadata
    assert len([name for name in held if name.startswith("model.")]) == 2 * 7 * 2
    assert all(".lora_" in name for name in held if not name.startswith("optimizer.param_groups"))


def test_flops_of_frozen_weights_have_no_gradient_of_their_own() -> None:
    model = small_model(0)
    full = flops_per_token(model, 0)
    add_adapters(model, LORA, 0)
    added = sum(weights.numel() for weights in trained_weights(model).values())
    assert flops_per_token(model, 0) == full * 4 / 6 + 6 * added


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_ranks_train_adapters_as_one_does_and_go_on_from_each_others_checkpoints(precision: str, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"lora": LORA, "precision": precision, "batch_tokens": 4 * 16})
    both = config.model_copy(update={"ranks": RanksConfig(processes=2)})
    one, two = (Workspace.at(tmp_path / name) for name in ("one", "two"))
    alone, together = trained(one, config, 4)[0], trained(two, both, 4)[0]
    if precision == "float32":  # in bfloat16 Adam makes whole steps of what rounding leaves of small gradients
        for name, weights in trained_weights(alone).items():
            torch.testing.assert_close(trained_weights(together)[name], weights, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(two.metrics.read(), one.metrics.read(), strict=True):
        for metric in ("loss", "gradient_norm"):
            assert ours["values"][metric] == pytest.approx(theirs["values"][metric], rel=1e-4 if precision == "float32" else 0.03)
    # Two go on where two were, from 4 steps to 6, and end where two that were never interrupted do.
    gone_on, uninterrupted = trained(two, both)[0], trained(Workspace.at(tmp_path / "whole"), both)[0]
    for name, weights in trained_weights(uninterrupted).items():
        assert torch.equal(trained_weights(gone_on)[name], weights), name


def test_fine_tuning_keeps_adapters_and_says_so(tmp_path: Path) -> None:
    base = save_policy(tmp_path / "policy")
    write_examples(tmp_path / "solutions" / "examples.jsonl", examples())
    config = SFTConfig(batch_tokens=256, context_tokens=128, steps=3, precision="float32", learning_rate=1e-2, lora=LORA)
    workspace = Workspace.at(tmp_path / "sft")
    result = finetune(config, base, [tmp_path / "solutions"], workspace)
    folder = workspace.out / "model"
    assert is_adapted(folder)
    held = load_file(folder / "adapter_model.safetensors")
    assert (result["lora_rank"], result["trained_parameters"]) == (4, sum(tensor.numel() for tensor in held.values()))
    tuned, before = load_policy(folder).state_dict(), load_policy(base).state_dict()
    changed = {name for name, weights in tuned.items() if not torch.equal(weights, before[name])}
    assert len(changed) == 2 * 7
    # The next stage starts from merged weights, and its checkpoint holds its own adapters upon these.
    onwards = Workspace.at(tmp_path / "onwards")
    finetune(config, folder, [tmp_path / "solutions"], onwards)
    assert is_adapted(onwards.out / "model" / "base")
    assert not torch.equal(load_policy(onwards.out / "model").state_dict()[min(changed)], tuned[min(changed)])


def test_a_reward_model_of_adapters_learns_with_its_head_and_is_refreshed(tmp_path: Path) -> None:
    policy, questions = save_policy(tmp_path / "policy"), save_problems(tmp_path / "problems", 60)
    config = REWARD.model_copy(update={"lora": LORA, "learning_rate": 1e-2})
    first, second = (Workspace.at(tmp_path / name) for name in ("reward", "refreshed"))
    result = train_reward(config, policy, policy, questions, first, ScriptedEngine(writes_seven))
    assert result["lora_rank"] == 4
    assert result["auc"] > 0.9
    stored = load_file(first.out / "model" / "adapter_model.safetensors")
    assert "base_model.model.score.weight" in stored
    assert torch.equal(load_reward(first.out / "model").score.weight, stored["base_model.model.score.weight"])
    refresh = RefreshConfig(questions=20, epochs=1)
    result = refresh_reward(config, refresh, first.out / "model", policy, questions, [first.out], 1, second, ScriptedEngine(writes_seven))
    assert result["before_auc"] > 0.9
    assert is_adapted(second.out / "model" / "base")


def test_pretraining_keeps_adapters_beside_the_model_it_started_from(corpus: Path, problems: Path, tmp_path: Path) -> None:  # noqa: F811
    workspace = Workspace.at(tmp_path / "pretrain")
    result = pretrain(TINY, pretrain_config(lora=LORA), corpus, problems, workspace)
    folder = workspace.out / "model"
    assert is_adapted(folder)
    assert result["lora_rank"] == 4
    assert not torch.equal(
        load_policy(folder).model.layers[0].mlp.up_proj.weight, load_policy(folder / "base").model.layers[0].mlp.up_proj.weight
    )
    # More of it starts from the merged weights.
    more = Workspace.at(tmp_path / "more")
    pretrain(TINY, PretrainConfig(**pretrain_config(lora=LORA).model_dump()), corpus, problems, more, before=workspace.out)
    assert is_adapted(more.out / "model" / "base")


def test_a_name_that_is_no_layer_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match="lora.target_modules names qproj"):
        trained(Workspace.at(tmp_path), CONFIG.model_copy(update={"lora": LoRAConfig(rank=2, target_modules=["qproj"])}))


def test_what_fit_leaves_is_what_it_trained(tmp_path: Path) -> None:
    model, _ = trained(Workspace.at(tmp_path), CONFIG)
    assert not model.training
    name = "model.layers.0.mlp.up_proj"
    layer = model.get_submodule(name)
    added = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 8 / 4
    torch.testing.assert_close(merged_weights(model)[f"{name}.weight"] - small_model(0).get_submodule(name).weight, added)
