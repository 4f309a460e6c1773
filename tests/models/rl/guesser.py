"""A small policy that solves sums with a program, or guesses: for tests of rollouts with tools."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.models.policy.checkpoint import save
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.tokenizer import encode, train_tokenizer

TOOL: dict[str, Any] = {
    "format": "tool",
    "supervision": "outcome",
    "paradigm": {"reward": "rule"},
    "tools": {"programs": {"sandbox": "arithmetic"}},
    "precision": "float32",
}
"""Fields of a `GRPOConfig` whose rollouts are dialogues with the calculator."""

PAIRS = [(a, b) for a in range(1, 5) for b in range(1, 5)]


def save_guesser(folder: Path, heads: int = 4) -> Path:
    """Write `policy`, which was shown sums (three in ten with a program, the others with a guess), and `train.jsonl` and `test.jsonl`."""
    tokenizer: PreTrainedTokenizerFast = train_tokenizer([f"{a}+{b}?\n{''.join(_dialogue(a, b))}" for a, b in PAIRS] * 3, 300)
    prompter, random_ = Prompter(tokenizer, "short"), random.Random(0)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=256,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
            tie_word_embeddings=False,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        rows = []
        for a, b in random_.choices(PAIRS, k=32):
            parts = _dialogue(a, b) if random_.random() < 0.3 else [f"\\boxed{{{random_.randrange(1, 10)}}}"]
            prompt = prompter.encode(f"{a}+{b}?", "tool")
            answer = [token for part in parts for token in encode(tokenizer, part)]
            rows.append((prompt, [*prompt, *answer, tokenizer.eos_token_id]))
        longest = max(len(row) for _, row in rows)
        ids = torch.tensor([row + [2] * (longest - len(row)) for _, row in rows])
        labels = torch.tensor([[-100] * len(prompt) + row[len(prompt) :] + [-100] * (longest - len(row)) for prompt, row in rows])
        model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save(model.eval(), tokenizer, folder / "policy", "short")
    problems = [Problem(f"{a}-{b}", f"{a}+{b}?", str(a + b)) for a, b in PAIRS]
    for part in ("train", "test"):
        write_problems(folder / f"{part}.jsonl", problems)
    return folder


def _dialogue(a: int, b: int) -> list[str]:
    return [f"```python\nx={a}+{b}\nprint(x)\n```\n", f"```output\n{a + b}\n```\n", f"\\boxed{{{a + b}}}"]
