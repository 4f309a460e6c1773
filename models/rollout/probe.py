"""The health check after every weight sync: do trainer and engine agree on how likely the engine's own tokens are?

A sync can fail without a sound, and the run then learns from another policy's samples. The check asks the engine for a short sample of
a few prompts, with its log-probabilities, and computes the same ones with the trainer's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from data.errors import MathQuarryError
from models.rl.sequences import lay_out
from models.rl.shares import Scorer, inner_model, scored_logprobs
from models.rollout.engine import RolloutEngine

PROBE_TOKENS = 16


@dataclass(frozen=True)
class Agreement:
    """|log-probability difference| between engine and trainer over `tokens` sampled tokens, in nats."""

    mean: float
    largest: float
    tokens: int


def check(
    engine: RolloutEngine,
    scorer: Scorer,
    prompts: Sequence[list[int]],
    *,
    temperature: float,
    tolerance: float,
    version: str,
    seed: int = 0,
) -> Agreement:
    """Compare engine and trainer on one short sample of each prompt. Raises `MathQuarryError` if the mean difference is above `tolerance`.

    Sample at the run's temperature: an engine that reports log-probabilities for another one is found that way. Give the same prompts after
    every sync: keys and values that the engine kept from earlier weights are found that way. `version` names the weights in the message.
    Runs under the caller's autocast, without gradients; the model's mode is kept.
    """
    prompts = list(prompts)
    seeds = [seed + place for place in range(len(prompts))]
    sampled = engine.generate(prompts, n=1, temperature=temperature, max_tokens=PROBE_TOKENS, seeds=seeds)
    model = inner_model(scorer)
    training = model.training
    model.eval()
    with torch.no_grad():
        differences = [
            abs(ours - theirs)
            for prompt, (output,) in zip(prompts, sampled, strict=True)
            for ours, theirs in zip(_logprobs(scorer, prompt, output.tokens, temperature), output.logprobs, strict=True)
        ]
    model.train(training)
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


def _logprobs(scorer: Scorer, prompt: list[int], output: list[int], temperature: float) -> list[float]:
    """As the update computes them; one pass a prompt, so that ranks make as many even if their engines sampled different lengths."""
    (batch,) = lay_out([prompt], [output], inner_model(scorer), len(prompt) + len(output))
    return scored_logprobs(scorer, batch, temperature or 1.0).tolist()
