"""A policy of adapters leaves as plain weights, or as adapters beside their model; both stand alone and answer as the policy did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mathquarry.data.ledger.ledger import Ledger
from mathquarry.data.store.store import Identity, Store
from mathquarry.flows.__main__ import main
from mathquarry.models.policy.adapter_checkpoint import is_adapted
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.hf import TransformersEngine
from tests.models.policy.test_adapters import adapted_folder
from tests.models.rl.tiny import save_policy

QUESTIONS = ["How many pens?", "Tom has 3 red apples and gets 4 more.", "7-2=5"]
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A policy of adapters upon those of the stage before, which began with a model of the hub."""
    room = tmp_path_factory.mktemp("room")
    first = adapted_folder(room / "first", save_policy(room / "start"))
    store = Store(tmp_path_factory.mktemp("store"))
    start = Identity("import", 1, {"model": "some-org/base-model@0123abc", "holds": "policy"}, {}, ())
    imported = store.build(start, lambda workspace: {})
    trained = Identity("sft", 1, {"sft": {}}, {"policy": imported.key}, ())
    made = store.build(trained, lambda workspace: {"folder": adapted_folder(workspace.out / "model", first, seed=8).name})
    for artifact in (imported, made):
        Ledger(store).record(artifact)
    return store


def policy_of(store: Store) -> Path:
    return store.get("sft", Ledger(store).resolve("sft")["key"]).path / "model"


def answers(folder: Path) -> list[list[int]]:
    """What our own engine answers."""
    prompter, engine = Prompter.load(folder), TransformersEngine.from_folder(RolloutConfig(), folder)
    prompts = [prompter.encode(question) for question in QUESTIONS]
    groups = engine.generate(prompts, n=1, temperature=0.0, max_tokens=MAX_TOKENS, seeds=[0, 1, 2])
    return [list(group[0].tokens) for group in groups]


def answers_elsewhere(model: torch.nn.Module, folder: Path) -> list[list[int]]:
    """What transformers answers by the chat template, up to the end that the folder names."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for question in QUESTIONS:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=MAX_TOKENS)  # type: ignore[operator]
        found.append(out[0, ids["input_ids"].shape[1] :].tolist())
    return found


def test_merged_weights_generate_the_tokens_of_the_policy_and_need_nothing_of_peft(store: Store, tmp_path: Path) -> None:
    assert main(["export", "sft", str(tmp_path / "merged"), "--store", str(store.url)]) == 0
    assert main(["export", "sft", str(tmp_path / "said"), "--store", str(store.url), "--merge"]) == 0
    for folder in (tmp_path / "merged", tmp_path / "said"):
        assert not list(folder.glob("adapter*"))
        assert not (folder / "base").exists()
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert not [name for name in weights if "lora" in name]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    ours = answers(policy_of(store))
    assert answers_elsewhere(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), tmp_path / "merged") == ours
    assert ours != answers(policy_of(store) / "base")
    assert ours != answers(policy_of(store) / "base" / "base")


def test_adapters_apart_answer_as_the_card_says_they_are_loaded(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart = tmp_path / "apart"
    assert main(["export", "sft", str(apart), "--store", str(store.url), "--no-merge"]) == 0
    printed = capsys.readouterr().out
    assert f"vllm serve {apart / 'base'} --served-model-name base --enable-lora --max-lora-rank 8 --lora-modules apart={apart}" in printed
    card = (apart / "README.md").read_text(encoding="utf-8")
    assert 'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("THIS_FOLDER/base"), "THIS_FOLDER")' in card
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(apart / "base"), apart)
    assert answers_elsewhere(model, apart) == answers(policy_of(store))
    assert not is_adapted(apart / "base")  # those of the stage before are in its weights
    assert (apart / "base" / "chat_template.jinja").read_text() == (apart / "chat_template.jinja").read_text()


def test_what_was_exported_apart_can_be_merged_and_asked_by_its_folder(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "sft", str(tmp_path / "apart"), "--store", str(store.url), "--no-merge"]) == 0
    assert main(["export", str(tmp_path / "apart"), str(tmp_path / "merged"), "--dtype", "bfloat16"]) == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.bfloat16}
    capsys.readouterr()
    said = []
    for model in ("sft", str(tmp_path / "apart")):
        assert main(["sample", model, QUESTIONS[0], "--store", str(store.url), "--max-tokens", "12"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_apart_the_weights_of_the_model_below_get_the_precision_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    assert main(["export", "sft", str(tmp_path / "apart"), "--store", str(store.url), "--no-merge", "--dtype", "bfloat16"]) == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "apart" / "base" / "model.safetensors").values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in load_file(tmp_path / "apart" / "adapter_model.safetensors").values()} == {torch.float32}


def test_the_card_names_the_model_that_a_recipes_start_took(store: Store, tmp_path: Path) -> None:
    assert main(["export", "sft", str(tmp_path / "merged"), "--store", str(store.url)]) == 0
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert 'base_model: "some-org/base-model"' in card
    assert "The weights started from `some-org/base-model`, and its licence applies to them too." in card


def test_a_policy_without_adapters_has_none_that_could_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_policy(tmp_path / "plain")
    assert main(["export", str(tmp_path / "plain"), str(tmp_path / "out"), "--no-merge"]) == 1
    assert "has no adapters that could stay apart" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"r": 0}, "r is 0"), ({"use_dora": True}, "LoRA with use_dora"), ({"peft_type": "LOHA"}, "holds LOHA")],
)
@pytest.mark.parametrize("way", ["--merge", "--no-merge"])
def test_adapters_of_another_kind_are_one_line(
    change: dict, said: str, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapted_folder(tmp_path / "adapted", save_policy(tmp_path / "start"))
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **change}))
    assert main(["export", str(folder), str(tmp_path / "out"), way]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
