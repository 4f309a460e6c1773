"""Makes the rollout engine that a config names, from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mathquarry.data.errors import MathQuarryError
from mathquarry.models.policy.adapters import Adapters
from mathquarry.models.policy.checkpoint import load_tokenizer
from mathquarry.models.policy.merge import whole_checkpoint
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.engine import RolloutEngine, folder_end_tokens, transfer_backend


def make_engine(
    config: RolloutConfig, model_dir: Path, *, live_model: Any = None, alone: bool = False, adapters: Adapters | None = None
) -> RolloutEngine:
    """Return the engine named by `config.engine`, with the weights of `model_dir`, or of `live_model` if it is given.

    `transformers` generates with `live_model` itself (no second copy); `vllm` copies its weights. `alone` means that no trainer shares the
    GPU. With the handover `adapter`, the engine is started with room for `adapters`, but without any. Raises `MathQuarryError` if vLLM is
    not installed, if the folder is not a checkpoint, or if its model does not stop at its tokenizer's end token.
    """
    _require_common_end(model_dir)
    if config.engine == "vllm":
        # Imported here: vLLM is optional, and importing it takes seconds.
        from mathquarry.models.rollout.vllm import VLLMEngine

        with whole_checkpoint(model_dir) as whole:
            expected = adapters if config.handover == "adapter" else None
            transfer = None if alone else transfer_backend(config)
            served = VLLMEngine(config, whole, alone=alone, transfer=transfer, adapters=expected)
        if live_model is not None and expected is None:
            served.load_live(live_model, "start")
        return served
    from mathquarry.models.rollout.hf import TransformersEngine

    if live_model is not None:
        return TransformersEngine(config, live_model)
    return TransformersEngine.from_folder(config, model_dir)


def _require_common_end(model_dir: Path) -> None:
    """Refuse a checkpoint trained with one end token whose config stops at others: no answer would finish, so all would be wrong."""
    if not (model_dir / "tokenizer_config.json").exists():
        return  # weights of a handover; the tokenizer was checked at the start
    tokenizer = load_tokenizer(model_dir)
    ends = folder_end_tokens(model_dir)
    if tokenizer.eos_token_id not in ends:
        raise MathQuarryError(
            f"{model_dir} ends answers with {tokenizer.eos_token!r} (token {tokenizer.eos_token_id}, its tokenizer's), but its config.json "
            f"and generation_config.json stop at {', '.join(map(str, ends))}: no answer would finish. Add {tokenizer.eos_token_id} to "
            "eos_token_id in both files, or start from the original model in stage `pretrain`, which does so."
        )
