"""The interface of rollout engines: prompts as token ids in, completions as token ids with log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, GenerationConfig

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Bar
from mathquarry.models.rollout.config import RolloutConfig


@dataclass(slots=True)
class Completion:
    """One sampled answer.

    `tokens` ends with the end-of-sequence token if the answer is `finished`. Otherwise it was truncated at `max_tokens` or at the limit of
    the model's context. `logprobs[t]` is the natural log of the probability with which `tokens[t]` was sampled: at the sampling
    temperature, or at temperature 1 for greedy decoding.
    """

    tokens: list[int]
    logprobs: list[float]
    finished: bool
    stopped: bool = False
    """It stopped at a `Stop` and can continue."""


@dataclass(frozen=True)
class HeldTensor:
    """A weight in an engine, represented by its projection (see `mathquarry.models.rollout.weight_check`)."""

    parts: tuple[str, ...]
    """The trainer's names of it: several if the engine stores them as one tensor, stacked by rows in this order."""
    dtype: torch.dtype
    projection: float
    exact: bool
    """Whether the projection was computed in float64, and not by a layer in its own precision."""


@dataclass(frozen=True)
class Stop:
    """Where to pause a completion before its end, so that the caller can append tokens.

    It stops after a token in `tokens` if `holds(tokens so far)` is true. If the text that triggers a stop ends inside a token, the token is
    kept whole.
    """

    tokens: frozenset[int]
    """The only tokens after which `holds` is called, since calling it takes time."""
    holds: Callable[[list[int]], bool]


class RolloutEngine(Protocol):
    """Generates from one policy at a time."""

    limit: int | None
    """Maximum length of a sequence (prompt and completion) in tokens; `None` if the model has no limit."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights that it generates with."""
        ...

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
    ) -> list[list[Completion]]:
        """Return `n` completions for each prompt, from the whole distribution (no top-p, no top-k). Temperature 0 is greedy.

        `max_tokens` is one number for all prompts, or one per prompt. With `stop`, completions can be `stopped`.

        Sample j of prompt i depends on `seeds[i]` and j, not on other prompts in the batch (up to rounding errors). So equal prompts need
        different seeds. `progress` advances by one per finished completion. Raises `MathQuarryError` for a prompt that is empty or leaves
        no room for an answer in the model's context.
        """
        ...

    def load(self, model_dir: Path, version: str) -> None:
        """Load the weights of a checkpoint of the same architecture. `version` names them. Caches of other versions are not used."""
        ...

    def load_live(self, model: Any, version: str) -> None:
        """Load the weights of a torch module that is being trained."""
        ...

    def receive(self, weights: Iterable[tuple[str, torch.Tensor]], version: str) -> None:
        """Load all weights from a stream of (name, tensor). Each tensor is only kept until the next ones arrive.

        Raises `MathQuarryError` if some are missing. If the stream gathers shards, all ranks' engines must read it.
        """
        ...

    def held_weights(self, trained: Any) -> list[HeldTensor]:
        """Return projections of the weights that the engine generates with; none if it generates with the module `trained` itself."""
        ...

    def logprobs(self, prompts: list[list[int]], completions: list[list[int]]) -> list[list[float]]:
        """Return the log-probability of every completion token at temperature 1, given the tokens before it."""
        ...

    def sleep(self, *, weights_follow: bool) -> None:
        """Free as much memory as possible until the next generation.

        With `weights_follow`, new weights will be loaded before the next generation, so the current ones can be dropped.
        """
        ...

    def close(self) -> None:
        """Free memory and stop processes. The engine cannot be used afterwards."""
        ...


def transfer_backend(config: RolloutConfig) -> str | None:
    """Return the backend of vLLM's weight transfer that `config.handover` uses, if any."""
    return config.handover if config.handover in ("ipc", "nccl") else None


def folder_end_tokens(model_dir: Path) -> list[int]:
    """Return the `end_tokens` of a checkpoint folder."""
    config = AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    generation = (
        GenerationConfig.from_pretrained(model_dir, trust_remote_code=False) if (model_dir / "generation_config.json").exists() else None
    )
    return end_tokens(config, generation)


def end_tokens(config: Any, generation_config: Any = None) -> list[int]:
    """Return the ids that end an answer, from a Hugging Face config and its generation config: sorted, possibly several.

    Raises `MathQuarryError` if neither has one, since answers could not end.
    """
    found: set[int] = set()
    for source in (config, generation_config):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    if not found:
        raise MathQuarryError(
            "the model's config.json has no eos_token_id, so answers could not end. Add it to the checkpoint's config.json."
        )
    return sorted(found)


def require_all(missing: Collection[str], version: str) -> None:
    """Raise `MathQuarryError` if weights that an engine needs are missing."""
    if missing:
        raise MathQuarryError(
            f"the weights of {version} lack {len(missing)} that the engine needs, among them {min(missing)}. Engine and trainer must have "
            "the same architecture: start both from the same checkpoint."
        )


def context_limit(config: Any) -> int | None:
    """Return the maximum sequence length in a model's config, in tokens; `None` if the config has none."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def budgets(prompts: Sequence[Sequence[int]], max_tokens: int | Sequence[int], limit: int | None) -> list[int]:
    """Return how many tokens each prompt's completions may have: `max_tokens` (one number, or one per prompt), limited by the context.

    Raises `MathQuarryError` for an empty prompt, or one that leaves no room for an answer.
    """
    for place, prompt in enumerate(prompts):
        if not prompt:
            raise MathQuarryError(f"prompt {place} is empty; a prompt needs at least one token.")
        if limit is not None and len(prompt) >= limit:
            raise MathQuarryError(
                f"prompt {place} has {len(prompt)} tokens, but the engine's context is {limit} tokens, and the answer needs some of them. "
                "Drop the question, or use a model with a longer context (vLLM: or raise rollout.kv_cache_gib)."
            )
    wanted = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else max_tokens
    return [most if limit is None else min(most, limit - len(prompt)) for prompt, most in zip(prompts, wanted, strict=True)]
