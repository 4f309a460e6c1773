"""Checks after every weight sync that trainer and engine agree on the log-probabilities of the engine's own tokens.

A sync can fail silently; the run then learns from the samples of another policy. The check generates a short sample for a few prompts,
and compares the engine's log-probabilities with those of the trainer's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.logprobs.partition import PolicyModel, inner_model, policy_logprobs
from mathquarry.models.logprobs.sequences import lay_out
from mathquarry.models.rollout.engine import RolloutEngine

PROBE_TOKENS = 16


@dataclass(frozen=True)
class Agreement:
    """|log-probability difference| between engine and trainer over `tokens` sampled tokens, in nats."""

    mean: float
    largest: float
    tokens: int


def check(
    engine: RolloutEngine,
    model: PolicyModel,
    prompts: Sequence[list[int]],
    *,
    temperature: float,
    tolerance: float,
    version: str,
    seed: int = 0,
) -> Agreement:
    """Compare engine and trainer on one short sample of each prompt. Raises `MathQuarryError` if the mean difference is above `tolerance`.

    Sample at the run's temperature, to detect an engine that reports log-probabilities for another one. Use the same prompts after every
    sync, to detect an engine that keeps keys and values of earlier weights. `version` names the weights in the message. Runs under the
    caller's autocast, without gradients. The model's mode does not change.
    """
    prompts = list(prompts)
    seeds = [seed + place for place in range(len(prompts))]
    sampled = engine.generate(prompts, n=1, temperature=temperature, max_tokens=PROBE_TOKENS, seeds=seeds)
    inner = inner_model(model)
    training = inner.training
    inner.eval()
    with torch.no_grad():
        differences = [
            abs(ours - theirs)
            for prompt, (completion,) in zip(prompts, sampled, strict=True)
            for ours, theirs in zip(_logprobs(model, prompt, completion.tokens, temperature), completion.logprobs, strict=True)
        ]
    inner.train(training)
    found = Agreement(sum(differences) / len(differences), max(differences), len(differences))
    # Written so that NaN fails too.
    if not found.mean <= tolerance:
        raise MathQuarryError(
            f"after the sync to {version}, engine and trainer disagree: their log-probabilities differ by {found.mean:.4f} on average and "
            f"{found.largest:.4f} at most over {found.tokens} tokens; probe_tolerance is {tolerance}. Likely causes: the engine kept an "
            "old language-model head (tied embeddings), it kept keys and values of these prompts in its prefix cache, or it reports "
            f"log-probabilities as at temperature 1 (it samples at {temperature}). A small, steady difference is rounding: raise "
            "probe_tolerance, or use one precision for both."
        )
    return found


def _logprobs(model: PolicyModel, prompt: list[int], completion: list[int], temperature: float) -> list[float]:
    """Compute log-probabilities as the update does. One pass per prompt, so ranks make equally many even if lengths differ."""
    (batch,) = lay_out([prompt], [completion], inner_model(model), len(prompt) + len(completion))
    return policy_logprobs(model, batch, temperature or 1.0).tolist()
