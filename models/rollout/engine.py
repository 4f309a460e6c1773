"""What a rollout engine is: prompts as token ids in, outputs as token ids with log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, GenerationConfig

from data.errors import MathQuarryError
from data.workspace import Bar
from models.checkpoint import load_tokenizer
from models.config import RolloutConfig


@dataclass(slots=True)
class Output:
    """One sampled answer.

    `tokens` ends with the end-of-sequence token when the answer is `finished`; otherwise it was cut at `max_tokens` or at the end of the
    model's context. `logprobs[t]` is the natural log of the probability that `tokens[t]` was drawn with: at the sampling temperature, or
    at temperature 1 when decoding was greedy.
    """

    tokens: list[int]
    logprobs: list[float]
    finished: bool
    stopped: bool = False
    """It stands at a `Stop` and could go on."""


@dataclass(frozen=True)
class HeldTensor:
    """A weight as an engine holds it, by its projection (see `models.rollout.weight_check`)."""

    parts: tuple[str, ...]
    """The trainer's names of it: several where the engine keeps them as one, stacked by rows in this order."""
    dtype: torch.dtype
    projection: float
    exact: bool
    """Whether the projection was computed in float64, or by a layer in its own arithmetic."""


@dataclass(frozen=True)
class Stop:
    """Where an output stops before its end, for somebody else to have a word.

    It stops after a token of `tokens` at which `holds(tokens so far)`, the output's tokens, is true. Text that calls for a stop may end
    inside a token; the token is kept whole.
    """

    tokens: frozenset[int]
    """The only tokens at which `holds` is asked, since asking takes time."""
    holds: Callable[[list[int]], bool]


class RolloutEngine(Protocol):
    """Generates from one policy at a time."""

    limit: int | None
    """Longest sequence, prompt and output together, in tokens; `None` where the model states none."""

    def generate(
        self,
        prompts: list[list[int]],
        *,
        n: int,
        temperature: float,
        max_tokens: int | Sequence[int],
        seeds: list[int],
        progress: Bar | None = None,
        stop: Stop | None = None,
    ) -> list[list[Output]]:
        """`n` outputs for each prompt, from the whole distribution (no top-p, no top-k). Temperature 0 is greedy.

        `max_tokens` is one number for all prompts, or one for each. With `stop`, outputs may be `stopped`.

        Sample j of prompt i depends on `seeds[i]` and j, not on the prompts it shares a batch with (up to rounding of the arithmetic).
        Two equal prompts therefore need two seeds. `progress` advances by one for each finished output.
        Raises `MathQuarryError` for a prompt that is empty or leaves no room for an answer in the model's context.
        """
        ...

    def load(self, model_dir: Path, version: str) -> None:
        """Take the weights of a checkpoint of the same architecture. `version` names them; nothing cached for another name is used."""
        ...

    def load_live(self, model: Any, version: str) -> None:
        """Take the weights of a torch module that is being trained."""
        ...

    def held_weights(self, trained: Any) -> list[HeldTensor]:
        """Projections of the weights that the engine generates with; none if it generates with the module `trained` itself."""
        ...

    def logprobs(self, prompts: list[list[int]], outputs: list[list[int]]) -> list[list[float]]:
        """Log-probability of every output token at temperature 1, given what stands before it."""
        ...

    def rest(self) -> None:
        """Nothing is generated until the next weights come: give back what memory can be given back until then."""
        ...

    def close(self) -> None:
        """Free memory and processes. The engine cannot be used afterwards."""
        ...


def make_engine(config: RolloutConfig, model_dir: Path, *, live_model: Any = None) -> RolloutEngine:
    """The engine that `config.engine` names, with the weights of `model_dir`, or those of `live_model` if it is given.

    `transformers` generates with `live_model` itself (no second copy); `vllm` copies its weights.
    Raises `MathQuarryError` when vLLM is not installed, when the folder is no checkpoint, or when its model does not stop at its
    tokenizer's end token.
    """
    _require_common_end(model_dir)
    if config.engine == "vllm":
        # Imported here: vLLM is optional, and importing it takes seconds.
        from models.rollout.vllm import VLLMEngine

        served = VLLMEngine(config, model_dir)
        if live_model is not None:
            served.load_live(live_model, "start")
        return served
    from models.rollout.hf import TransformersEngine

    if live_model is not None:
        return TransformersEngine(config, live_model)
    return TransformersEngine.from_folder(config, model_dir)


def _require_common_end(model_dir: Path) -> None:
    """Refuse a checkpoint that was taught one end token and stops at others: no answer would ever finish, and every one be wrong."""
    if not (model_dir / "tokenizer_config.json").exists():
        return  # a folder of weights, as they are handed over; whoever began with it had the tokenizer
    tokenizer = load_tokenizer(model_dir)
    ends = folder_end_tokens(model_dir)
    if tokenizer.eos_token_id not in ends:
        raise MathQuarryError(
            f"{model_dir} ends answers with {tokenizer.eos_token!r} (token {tokenizer.eos_token_id}, its tokenizer's), but its config.json "
            f"and generation_config.json stop at {', '.join(map(str, ends))}: no answer would finish. Add {tokenizer.eos_token_id} to "
            "eos_token_id in both files, or start from the original model in stage `pretrain`, which does so."
        )


def folder_end_tokens(model_dir: Path) -> list[int]:
    """`end_tokens` of a checkpoint folder."""
    config = AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    generation = (
        GenerationConfig.from_pretrained(model_dir, trust_remote_code=False) if (model_dir / "generation_config.json").exists() else None
    )
    return end_tokens(config, generation)


def end_tokens(config: Any, generation_config: Any = None) -> list[int]:
    """Ids that end an answer, from a Hugging Face config and its generation config: sorted, possibly more than one.

    Raises `MathQuarryError` when neither names one, since no answer could then end by itself.
    """
    found: set[int] = set()
    for source in (config, generation_config):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    if not found:
        raise MathQuarryError(
            "the model's config.json names no eos_token_id, so no answer could end. Add it to the checkpoint's config.json."
        )
    return sorted(found)


def context_limit(config: Any) -> int | None:
    """Longest sequence a model was built for, in tokens, or `None` where its config states none."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def budgets(prompts: Sequence[Sequence[int]], max_tokens: int | Sequence[int], limit: int | None) -> list[int]:
    """How many tokens each prompt's outputs may have: `max_tokens` (one number, or one a prompt), or what is left of the context.

    Raises `MathQuarryError` for an empty prompt, or one that leaves no room.
    """
    for place, prompt in enumerate(prompts):
        if not prompt:
            raise MathQuarryError(f"prompt {place} is empty; a prompt needs at least one token.")
        if limit is not None and len(prompt) >= limit:
            raise MathQuarryError(
                f"prompt {place} has {len(prompt)} tokens, but the engine's context is {limit} tokens and the answer needs room too. "
                "Drop the question, or use a model with a longer context (vLLM: or raise rollout.kv_cache_gib)."
            )
    wanted = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else max_tokens
    return [most if limit is None else min(most, limit - len(prompt)) for prompt, most in zip(prompts, wanted, strict=True)]
