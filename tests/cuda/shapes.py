"""Models large enough to keep a GPU busy, and completions for them."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mathquarry.models.rl.update import Experience

VOCABULARY = 2048


def small_llama(seed: int, device: torch.device, attention: str = "sdpa") -> LlamaForCausalLM:
    """A model of six million weights with heads of 64, as attention kernels need them. Its distribution is far from flat."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
        initializer_range=0.06,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval().to(device)


def completions_to_learn_from(questions: int = 4, group: int = 4, longest: int = 96) -> Experience:
    """Groups of random completions, with random advantages."""
    generator = torch.Generator().manual_seed(7)

    def tokens(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()

    prompts = [prompt for prompt in (tokens(20 + 9 * q) for q in range(questions)) for _ in range(group)]
    lengths = torch.randint(8, longest, (questions * group,), generator=generator).tolist()
    completions = [tokens(length) for length in lengths]
    return Experience(prompts, completions, torch.randn(len(completions), max(lengths), generator=generator))
