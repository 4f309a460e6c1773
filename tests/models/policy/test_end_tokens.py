"""Answers end where the model stops: the end tokens of tokenizer, config and generation config agree, whoever made the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerFast

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.checkpoint import load_start, save
from mathquarry.models.policy.config import PretrainedModel
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import folder_end_tokens
from mathquarry.models.rollout.make import make_engine
from tests.models.rl.tiny import save_policy, tiny_policy, tiny_tokenizer

# (special tokens of the family, the tokenizer's EOS, EOS of config.json, EOS of generation_config.json), as the families publish them.
FAMILIES = {
    "Qwen2.5": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
    "Qwen2.5 Instruct": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", "<|im_end|>", ["<|im_end|>", "<|endoftext|>"]),
    "Llama 3": (["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], "<|end_of_text|>", "<|end_of_text|>", "<|end_of_text|>"),
    "Llama 3 Instruct": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        "<|eot_id|>",
        ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    ),
    # Its config.json is the base model's: training ends answers with a token that no config names.
    "DeepSeek-Coder Instruct": (["<｜end▁of▁sentence｜>", "<|EOT|>"], "<|EOT|>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "DeepSeekMath": (["<｜end▁of▁sentence｜>"], "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "Gemma Instruct": (["<eos>", "<start_of_turn>", "<end_of_turn>"], "<eos>", "<eos>", ["<eos>", "<end_of_turn>"]),
}


def published(family: str, folder: Path) -> PreTrainedTokenizerFast:
    """A tiny model with the special tokens of a family; returns its tokenizer."""
    special, eos, config_eos, generation_eos = FAMILIES[family]
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special], special_tokens=True)
    tokenizer.eos_token = eos

    def ids(names: str | list[str]) -> int | list[int]:
        return tokenizer.convert_tokens_to_ids(names)

    model = tiny_policy(0, len(tokenizer))
    model.config.eos_token_id, model.generation_config.eos_token_id = ids(config_eos), ids(generation_eos)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_training_starts_from_stops_at_the_token_that_training_ends_with(family: str, tmp_path: Path) -> None:
    eos = published(family, tmp_path / "published").eos_token_id
    stops = folder_end_tokens(tmp_path / "published")
    policy, tokenizer, style = load_start(PretrainedModel(path=str(tmp_path / "published")))
    assert tokenizer.eos_token_id == eos
    save(policy, tokenizer, tmp_path / "saved", style)
    # Nothing that ended an answer before is forgotten, and both files say the same.
    assert folder_end_tokens(tmp_path / "saved") == sorted({eos, *stops})
    assert AutoConfig.from_pretrained(tmp_path / "saved").eos_token_id == GenerationConfig.from_pretrained(tmp_path / "saved").eos_token_id
    make_engine(RolloutConfig(), tmp_path / "saved").close()


def test_a_policy_that_stops_at_other_tokens_than_it_was_taught_is_refused(tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "policy")
    make_engine(RolloutConfig(), folder).close()
    for file in (AutoConfig.from_pretrained(folder), GenerationConfig.from_pretrained(folder)):
        file.eos_token_id = 2
        file.save_pretrained(folder)
    with pytest.raises(
        MathQuarryError, match=r"ends answers with '<eos>' \(token 1, its tokenizer's\).* stop at 2: no answer would finish"
    ):
        make_engine(RolloutConfig(), folder)
