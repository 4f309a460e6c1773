"""Adapters: their forward pass, how they are saved, and which folders are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.prompts import PromptStyle
from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.adapters import adapters_off, add_adapters, has_adapters, merged_weights
from mathquarry.models.policy.checkpoint import load_policy, load_reward, load_tokenizer, new_reward_model, save
from mathquarry.models.policy.config import LoRAConfig
from mathquarry.models.policy.merge import merge, whole_checkpoint
from mathquarry.models.rollout.engine import folder_end_tokens
from tests.models.rl.tiny import save_policy, tiny_policy

LORA = LoRAConfig(rank=3, alpha=6)
IDS_BT = torch.arange(5, 25).reshape(2, 10)


def learned(model: torch.nn.Module, seed: int = 7) -> torch.nn.Module:
    """Give all trained tensors values as after some steps."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def adapted_folder(folder: Path, base: Path, seed: int = 7, style: PromptStyle = "short") -> Path:
    model = learned(add_adapters(load_policy(base), LORA, seed=0), seed)
    save(model, load_tokenizer(base), folder, style, base=base)
    return folder


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=IDS_BT).logits


def test_a_model_with_new_adapters_computes_what_it_did_and_trains_nothing_else() -> None:
    model = tiny_policy()
    before = logits(model)
    add_adapters(model, LORA, seed=0)
    assert torch.equal(logits(model), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 7 * 2  # A and B of the seven matrices of two blocks
    assert all(".lora_" in name for name in trained)


def test_without_a_rank_nothing_changes() -> None:
    model = tiny_policy()
    add_adapters(model, LoRAConfig(), seed=0)
    assert not has_adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_adapters_are_drawn_from_the_seed_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(3)
    drawn = [add_adapters(tiny_policy(), LORA, seed).state_dict() for seed in (0, 0, 1)]
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    assert torch.equal(drawn[0][name], drawn[1][name])
    assert not torch.equal(drawn[0][name], drawn[2][name])
    tiny_policy()
    state = torch.get_rng_state()
    model = tiny_policy()
    assert torch.equal(torch.get_rng_state(), state)
    add_adapters(model, LORA, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_alpha_over_rank_scales_what_an_adapter_adds() -> None:
    once, twice = (learned(add_adapters(tiny_policy(), LoRAConfig(rank=3, alpha=alpha), seed=0)) for alpha in (6, 12))
    plain = tiny_policy().state_dict()["model.layers.0.mlp.up_proj.weight"]
    added = [merged_weights(model)["model.layers.0.mlp.up_proj.weight"] - plain for model in (once, twice)]
    torch.testing.assert_close(added[1], 2 * added[0])
    assert added[0].abs().max() > 0
    assert torch.linalg.matrix_rank(added[0]) == 3


def test_named_layers_alone_get_adapters_and_unknown_names_are_refused() -> None:
    model = add_adapters(tiny_policy(), LoRAConfig(rank=2, target_modules=["v_proj", "q_proj"]), seed=0)
    places = {name.split(".lora_")[0].split(".")[-1] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert places == {"q_proj", "v_proj"}
    for names, said in ([["q_proj", "lm_head"], "names lm_head"], [["(a+)+$"], "names"], [[], "names nothing"]):
        with pytest.raises(MathQuarryError, match=said):
            add_adapters(tiny_policy(), LoRAConfig(rank=2, target_modules=names), seed=0)


def test_dropout_acts_in_training_mode_alone() -> None:
    model = learned(add_adapters(tiny_policy(), LoRAConfig(rank=3, dropout=0.5), seed=0))
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_with_adapters_off_the_model_is_what_it_was_and_they_still_get_gradients_afterwards() -> None:
    model, plain = learned(add_adapters(tiny_policy(), LORA, seed=0)), tiny_policy()
    with adapters_off(model):
        assert torch.equal(logits(model), logits(plain))
        assert all(parameter.requires_grad for name, parameter in model.named_parameters() if ".lora_" in name)
        assert torch.equal(merged_weights(model)["model.layers.1.mlp.up_proj.weight"], plain.model.layers[1].mlp.up_proj.weight)
    assert not torch.equal(logits(model), logits(plain))
    model(input_ids=IDS_BT).logits.sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if ".lora_" in name
    }


def test_merged_weights_are_those_of_a_plain_model_that_computes_the_same() -> None:
    model, plain = learned(add_adapters(tiny_policy(), LORA, seed=0)), tiny_policy()
    weights = merged_weights(model)
    assert list(weights) == list(plain.state_dict())
    assert len(weights) == len(plain.state_dict())
    plain.load_state_dict(dict(weights))
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-5, atol=1e-5)


def test_in_bfloat16_what_is_not_trained_is_kept_narrow_and_the_pass_is_the_same() -> None:
    wide, narrow = (learned(add_adapters(tiny_policy(), LORA, 0, precision)) for precision in ("float32", "bfloat16"))
    assert narrow.lm_head.weight.dtype == narrow.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.bfloat16
    assert {p.dtype for p in narrow.parameters() if p.requires_grad} == {torch.float32}
    assert narrow.model.embed_tokens.weight.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits(wide), logits(narrow))


def test_a_checkpoint_holds_adapters_and_links_to_the_weights_they_belong_to(tmp_path: Path) -> None:
    base = save_policy(tmp_path / "policy")
    folder = adapted_folder(tmp_path / "adapted", base)
    assert is_adapted(folder)
    stored = load_file(folder / "adapter_model.safetensors")
    assert all(".lora_A." in name or ".lora_B." in name for name in stored)
    assert not list(folder.glob("model*.safetensors"))
    assert (folder / "base" / "model.safetensors").samefile(base / "model.safetensors")
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(base).get_vocab()
    assert folder_end_tokens(folder) == folder_end_tokens(base)


def test_loading_merges_and_chains_of_stages_merge_in_their_order(tmp_path: Path) -> None:
    first = adapted_folder(tmp_path / "first", save_policy(tmp_path / "policy"))
    second = adapted_folder(tmp_path / "second", first, seed=8)
    for folder, base in ((first, tmp_path / "policy"), (second, first)):
        model, seed = load_policy(folder), 7 if folder == first else 8
        assert not has_adapters(model)
        trained = learned(add_adapters(load_policy(base), LORA, seed=0), seed)
        for name, weights in merged_weights(trained).items():
            assert torch.equal(model.state_dict()[name], weights), name
    assert load_policy(second, torch.bfloat16).dtype == torch.bfloat16


def test_the_files_are_peft_s_own_format(tmp_path: Path) -> None:
    folder = adapted_folder(tmp_path / "adapted", save_policy(tmp_path / "policy"))
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder)
    torch.testing.assert_close(logits(theirs), logits(load_policy(folder)), rtol=1e-5, atol=1e-5)


def test_the_same_adapters_are_the_same_bytes(tmp_path: Path) -> None:
    base = save_policy(tmp_path / "policy")
    one, two = (adapted_folder(tmp_path / name, base) for name in ("one", "two"))
    for file in ("adapter_config.json", "adapter_model.safetensors", "config.json"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    assert json.loads((one / "adapter_config.json").read_text())["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


def test_a_merged_checkpoint_is_plain_and_computes_the_same(tmp_path: Path) -> None:
    folder = adapted_folder(tmp_path / "adapted", save_policy(tmp_path / "policy"))
    merge(folder, tmp_path / "merged")
    assert not is_adapted(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(logits(plain), logits(load_policy(folder)))
    assert json.loads((tmp_path / "merged" / "mathquarry.json").read_text()) == {"prompt_style": "short"}
    merge(folder, tmp_path / "half", torch.bfloat16)
    assert load_file(tmp_path / "half" / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16
    with whole_checkpoint(folder) as whole:
        assert (whole / "model.safetensors").is_file()
    assert not whole.exists()
    with whole_checkpoint(tmp_path / "merged") as whole:
        assert whole == tmp_path / "merged"


def test_a_reward_models_head_is_trained_whole_and_kept(tmp_path: Path) -> None:
    """On a plain policy, on one with adapters, and continued from itself."""
    base = save_policy(tmp_path / "policy")
    for start in (base, adapted_folder(tmp_path / "sft", base)):
        model = add_adapters(new_reward_model(start, 0), LORA, seed=0)
        assert model.score.weight.requires_grad
        learned(model)
        reward = tmp_path / f"reward-{start.name}"
        save(model, load_tokenizer(start), reward, "short", base=start)
        torch.testing.assert_close(logits(load_reward(reward)), logits(model), rtol=1e-5, atol=1e-5)
        with pytest.raises(MathQuarryError, match="not a causal language model"):
            load_policy(reward)
    again = learned(add_adapters(load_reward(reward), LORA, seed=1), seed=9)
    save(again, load_tokenizer(reward), tmp_path / "refreshed", "short", base=reward)
    torch.testing.assert_close(logits(load_reward(tmp_path / "refreshed")), logits(again), rtol=1e-5, atol=1e-5)
    merge(tmp_path / "refreshed", tmp_path / "merged")
    assert torch.equal(logits(load_reward(tmp_path / "merged")), logits(load_reward(tmp_path / "refreshed")))


def test_a_reward_model_on_adapters_starts_as_one_on_the_same_weights_merged(tmp_path: Path) -> None:
    folder = adapted_folder(tmp_path / "adapted", save_policy(tmp_path / "policy"))
    merge(folder, tmp_path / "merged")
    assert torch.equal(logits(new_reward_model(folder, 0)), logits(new_reward_model(tmp_path / "merged", 0)))


def _settings(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "adapter_model.safetensors"
    kept = {**load_file(path), **{f"base_model.model.{name}": tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, path)


A, B = (f"model.layers.0.mlp.up_proj.lora_{kind}.weight" for kind in "AB")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: shutil.rmtree(folder / "base"), "but not the checkpoint they belong to"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config.json cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("[" * 100_000), "adapter_config.json cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "adapter_config.json cannot be read"),
        (lambda folder: _settings(folder, r=0), "r is 0"),
        (lambda folder: _settings(folder, r="8"), "r is '8'"),
        (lambda folder: _settings(folder, r=True), "r is True"),
        (lambda folder: _settings(folder, lora_alpha=float("nan")), "lora_alpha nan"),
        (lambda folder: _settings(folder, use_dora=True), "LoRA with use_dora"),
        (lambda folder: _settings(folder, alpha_pattern={"q_proj": 100}), "LoRA with alpha_pattern"),
        (lambda folder: _settings(folder, peft_type="LOHA"), "holds LOHA"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "cannot read the adapters"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04cut"), "cannot read the adapters"),
        (lambda folder: _weights(folder, **{B: None}), "does not fit"),
        (lambda folder: _weights(folder, **{A: None}), "a B but no A"),
        (lambda folder: _weights(folder, **{A: torch.zeros(3, 4)}), "does not fit"),
        (lambda folder: _weights(folder, **{B: torch.zeros(32)}), "does not fit"),
        (lambda folder: _weights(folder, **{"model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(3, 16)}), "has no such matrix"),
        (lambda folder: _weights(folder, **{"model.embed_tokens.lora_A.weight": torch.zeros(3, 16)}), "has no such matrix"),
        (lambda folder: _weights(folder, **{"model.norm.weight": torch.zeros(16)}), "does not fit LlamaForCausalLM"),
        (lambda folder: _weights(folder, **{"score.weight": torch.zeros(1, 16)}), "does not fit LlamaForCausalLM"),
    ],
)
def test_a_folder_without_plain_lora_of_its_base_is_refused_in_one_line(spoil: object, said: str, tmp_path: Path) -> None:
    folder = adapted_folder(tmp_path / "adapted", save_policy(tmp_path / "policy"))
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(MathQuarryError, match=said) as refused:
        load_policy(folder)
    assert "\n" not in str(refused.value)


def test_adapters_on_top_of_themselves_do_not_loop_forever(tmp_path: Path) -> None:
    folder = adapted_folder(tmp_path / "adapted", save_policy(tmp_path / "policy"))
    shutil.rmtree(folder / "base")
    (folder / "base").symlink_to(folder, target_is_directory=True)
    with pytest.raises(MathQuarryError, match="but not the checkpoint"):
        load_policy(folder)
