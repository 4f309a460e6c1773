"""Warns when almost no completion ends: then all scores and labels say "wrong", and the reason is not the mathematics."""

from __future__ import annotations

import logging

logger = logging.getLogger("mathquarry")

FEW = 0.1
"""Share of finished completions below which a stage warns (our choice)."""


def warn_if_few_finish(stage: str, finished: float, max_tokens: int) -> None:
    """Log a warning if the share of completions that ended by themselves is below `FEW`."""
    if finished < FEW:
        logger.warning(
            "%s: only %.1f%% of the completions ended within %d tokens (rollout.max_tokens); the others count as wrong. A model that was "
            "not fine-tuned may never end. Otherwise, raise max_tokens, or check which end tokens its generation_config.json has.",
            stage,
            100 * finished,
            max_tokens,
        )
