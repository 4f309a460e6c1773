"""Speed of a training loop, its use of the hardware, and the estimated time left."""

from __future__ import annotations

import time
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from mathquarry.models.hardware import GPUS
from mathquarry.models.peak import PeakMemory


def flops_per_token(model: PreTrainedModel, context_tokens: int) -> float:
    """Return the FLOPs of training on a token: 6 per weight in matrix products (4 if it is not trained), and 12 x layers x hidden x context
    for attention (PaLM, appendix B).

    By this definition a row attends to all of itself, whatever its documents and masks, and recomputation does not count.
    """
    config = model.config.get_text_config()
    embeddings = cast(nn.Embedding, model.get_input_embeddings()).weight
    head = model.get_output_embeddings()
    weights = sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad and parameter is not embeddings)
    if head is None or head.weight is not embeddings:
        weights -= embeddings.numel()
    return 6.0 * weights - 2.0 * frozen + 12.0 * config.num_hidden_layers * config.hidden_size * context_tokens


class Speedometer:
    """Measures each step, from the end of the step before."""

    def __init__(self, flops_per_token: float, tokens_per_step: int, steps: int, ranks: int, memory: PeakMemory) -> None:
        """`steps` is the last step of the run; `flops_per_token` is as above."""
        self._memory = memory
        self._flops, self._tokens, self._steps, self._ranks = flops_per_token, tokens_per_step, steps, ranks
        self._mean: float | None = None
        self._last = time.monotonic()

    def step(self, step: int) -> dict[str, float]:
        """Return tokens_per_second; model_tflops: FLOP/s on all ranks, in 1e12; flops_utilisation: their share of the peak (known
        GPUs only); the metrics of `PeakMemory` on this rank; seconds_left: at the mean speed of about the last 20 steps.
        """
        now = time.monotonic()
        seconds, self._last = max(now - self._last, 1e-9), now
        self._mean = seconds if self._mean is None else 0.95 * self._mean + 0.05 * seconds
        speed = self._tokens / seconds
        metrics = {
            "tokens_per_second": round(speed, 1),
            "model_tflops": round(speed * self._flops / 1e12, 6),
            **{name: round(value, 3) for name, value in self._memory.metrics().items()},
            "seconds_left": round(self._mean * (self._steps - step), 1),
        }
        peak = peak_flops()
        return metrics if peak is None else {**metrics, "flops_utilisation": round(speed * self._flops / (peak * self._ranks), 4)}


def peak_flops() -> float | None:
    """Return the peak FLOP/s of the current GPU; `None` without a GPU, or if it is not in `GPUS`."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name().lower().replace(" ", "")
    return next((gpu.flops for part, gpu in GPUS.items() if part in name), None)
