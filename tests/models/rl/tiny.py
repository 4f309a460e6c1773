"""Models and tokenizers small enough for tests that compare numbers."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from models.tokenizer import train_tokenizer

LINES = ["Tom has 3 red apples and gets 4 more.", "3+4=7", "The answer is \\boxed{7}.", "7-2=5", "0 1 2 3 4 5 6 7 8 9"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """300 tokens: every byte, a few words, one token a digit and a newline of its own."""
    return train_tokenizer(LINES * 3, 300)


def tiny_config(vocabulary: int = 300) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
        num_labels=1,
        initializer_range=0.3,  # large, so that probabilities differ from uniform and mistakes show
    )


def tiny_policy(seed: int = 0, vocabulary: int = 300) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config(vocabulary)).eval()


def tiny_reward_model(seed: int = 0, vocabulary: int = 300) -> LlamaForTokenClassification:
    torch.manual_seed(seed)
    return LlamaForTokenClassification(tiny_config(vocabulary)).eval()
