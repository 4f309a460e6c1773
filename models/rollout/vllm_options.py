"""Options with which vLLM is started: in its own process, and with room for adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoConfig

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.adapters import Adapters
from mathquarry.models.ranks.launch import own_cards
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import context_limit

CPU_BLOCK_TOKENS = 32
"""Samples of a question share complete blocks of its prompt. The CPU build's default of 128 tokens is longer than most questions."""

PREFILL_TOKENS = 4096
"""Prompt tokens computed in one step on a CPU (or one prompt, if it is longer)."""

WHOLE_GPU = 0.92
"""Share of a GPU's memory for an engine that does not share the GPU. The rest is for CUDA."""


@contextmanager
def own_process(transfer: str | None) -> Iterator[None]:
    """A vLLM started inside the block runs in another process: on this rank's GPU, or for `nccl` on a GPU after those of the ranks."""
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if transfer == "nccl":
        place += int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        # vLLM receives pickled functions and handles of GPU memory over a socket that only this machine can use.
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
        "CUDA_VISIBLE_DEVICES": ",".join(own_cards(place, 1)),
    }
    launched = {name: os.environ.pop(name, None) for name in ("TORCHELASTIC_USE_AGENT_STORE", "CUDA_VISIBLE_DEVICES")}
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        del os.environ["CUDA_VISIBLE_DEVICES"]
        os.environ.update({name: value for name, value in launched.items() if value is not None})


def adapter_options(adapters: Adapters | None) -> dict[str, Any]:
    """Return the options of an engine that will get adapters. Only their layers are prepared: vLLM's CPU build cannot compute
    log-probabilities of given completions if its head can have an adapter. Raises `MathQuarryError` if their rank is too large for vLLM."""
    if adapters is None:
        return {}
    from vllm.config.lora import MaxLoRARanks

    ranks = [one for one in get_args(MaxLoRARanks) if one >= adapters.rank]
    if not ranks:
        raise MathQuarryError(
            f"vLLM supports adapters up to rank {max(get_args(MaxLoRARanks))}, but lora.rank is {adapters.rank}. Lower it, or set "
            "rollout.handover to `shared`."
        )
    return {"enable_lora": True, "max_lora_rank": ranks[0], "max_loras": 1, "max_cpu_loras": 1, "lora_target_modules": adapters.layers}


def device_options(config: RolloutConfig, model_dir: Path, alone: bool) -> dict[str, Any]:
    """Return options for precision and memory on this machine. `alone`: the engine does not share the GPU."""
    if torch.cuda.is_available():
        share = WHOLE_GPU if alone else config.gpu_memory_share
        return {"dtype": "bfloat16", "gpu_memory_utilization": share, "enable_sleep_mode": config.sleep and not alone}
    context = context_limit(AutoConfig.from_pretrained(model_dir, trust_remote_code=False)) or 0
    return {
        "dtype": "float32",
        # In eager mode and with a fixed cache size, the CPU build starts without a warm-up run.
        "enforce_eager": True,
        "kv_cache_memory_bytes": int(config.kv_cache_gib * 2**30),
        "block_size": CPU_BLOCK_TOKENS,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(PREFILL_TOKENS, context),
    }
