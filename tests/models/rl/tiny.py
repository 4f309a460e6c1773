"""Models and tokenizers small enough for tests that compare numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.store.workspace import Bar
from mathquarry.models.policy.checkpoint import save
from mathquarry.models.policy.questions import Question
from mathquarry.models.policy.tokenizer import train_tokenizer
from mathquarry.models.rl.rollouts import Rollout, Rollouts
from mathquarry.models.rollout.engine import Completion

LINES = ["Tom has 3 red apples and gets 4 more.", "3+4=7", "The answer is \\boxed{7}.", "7-2=5", "0 1 2 3 4 5 6 7 8 9"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """300 tokens: every byte, a few words, one token a digit and a newline of its own."""
    return train_tokenizer(LINES * 3, 300)


def tiny_config(vocabulary: int = 300, hidden: int = 16) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
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


def tiny_policy(seed: int = 0, vocabulary: int = 300, hidden: int = 16) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config(vocabulary, hidden)).eval()


def tiny_reward_model(seed: int = 0, vocabulary: int = 300, hidden: int = 16) -> LlamaForTokenClassification:
    torch.manual_seed(seed)
    return LlamaForTokenClassification(tiny_config(vocabulary, hidden)).eval()


def save_policy(folder: Path, seed: int = 0, hidden: int = 16) -> Path:
    """A policy checkpoint on disk."""
    tokenizer = tiny_tokenizer()
    save(tiny_policy(seed, len(tokenizer), hidden), tokenizer, folder, "short")
    return folder


def save_reward(folder: Path, seed: int = 0, hidden: int = 16) -> Path:
    """A reward checkpoint on disk."""
    tokenizer = tiny_tokenizer()
    save(tiny_reward_model(seed, len(tokenizer), hidden), tokenizer, folder, "short")
    return folder


def save_problems(folder: Path, count: int) -> Path:
    """Sums as training problems; problem i has the answer i + 2."""
    write_problems(folder / "train.jsonl", [Problem(f"p{i}", f"Tom has {i} apples and gets 2 more.", str(i + 2)) for i in range(count)])
    return folder


def sampled(questions: Sequence[Question], completions: Sequence[list[int]], finished: bool) -> Rollouts:
    """Completions of questions, the same number of each, not yet scored."""
    size = len(completions) // len(questions)
    return Rollouts([Rollout(questions[place // size], one, finished) for place, one in enumerate(completions)], size)


def scored(
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    step_ends: Sequence[list[int]],
    rewards: Sequence[list[float]],
    group_size: int,
) -> Rollouts:
    """Completions with their rewards, not yet with advantages."""
    columns = zip(prompts, completions, step_ends, rewards, strict=True)
    return Rollouts(
        [Rollout(Question(Problem("p", "?", "1"), prompt), one, True, step_ends=ends, rewards=row) for prompt, one, ends, row in columns],
        group_size,
    )


Script = Callable[[list[int], int, int], tuple[list[int], bool]]
"""(prompt, seed, sample) -> (tokens, finished)."""


@dataclass
class ScriptedEngine:
    """A rollout engine that says what a script tells it to, as far as there is room, and remembers what it was asked."""

    script: Script
    asked: list[list[int]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)

    def generate(
        self,
        prompts: list[list[int]],
        *,
        n: int,
        temperature: float,
        max_tokens: int | Sequence[int],
        seeds: list[int],
        progress: Bar | None = None,
    ) -> list[list[Completion]]:
        self.asked += prompts
        self.seeds += seeds
        self.samples += [n] * len(prompts)
        rooms = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else max_tokens
        rows = [[self.script(prompt, seed, j) for j in range(n)] for prompt, seed in zip(prompts, seeds, strict=True)]
        return [
            [Completion(tokens[:room], [0.0] * min(room, len(tokens)), finished and len(tokens) <= room) for tokens, finished in row]
            for row, room in zip(rows, rooms, strict=True)
        ]

    def load(self, model_dir: Path, version: str) -> None: ...

    def load_live(self, model: Any, version: str) -> None: ...

    def logprobs(self, prompts: list[list[int]], completions: list[list[int]]) -> list[list[float]]:
        return [[0.0] * len(completion) for completion in completions]

    def sleep(self, *, weights_follow: bool) -> None: ...

    def close(self) -> None: ...
