"""The supervised loop on a GPU: against the CPU, with and without recomputed activations, in both precisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.packing import Epochs, pack
from tests.cuda.shapes import VOCABULARY, small_llama

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    learning_rate=1e-4,
    batch_tokens=8 * 256,
    context_tokens=256,
    micro_batch_rows=4,
    precision="float32",
    optimizer=OptimizerConfig(weight_decay=0.0),
    schedule=ScheduleConfig(kind="constant", warmup_steps=0),
    loss_spike=None,
)


def trained(folder: Path, steps: int = 3, **changes: object) -> tuple[torch.Tensor, float, float]:
    """(weights on the CPU, last loss, peak MiB on the GPU) of a small model on random documents."""
    draw = np.random.default_rng(0)
    documents = [draw.integers(3, VOCABULARY, size=draw.integers(20, 200)).tolist() for _ in range(60)]
    rows = pack([(tokens, tokens) for tokens in documents], CONFIG.context_tokens, 0)
    model = small_llama(0, CPU)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    config = CONFIG.model_copy(update=changes)
    result = fit(model, Epochs(rows, 0), config, steps, Workspace.at(folder), "train", language_model_loss)
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return torch.cat([weights.detach().flatten().cpu() for weights in model.parameters()]), float(result["loss"]), peak


def test_recomputed_activations_give_the_same_weights_in_less_memory(
    device: torch.device, tmp_path: Path, note: Callable[[str, float, str], None]
) -> None:
    (kept, _, more), (again, _, less) = (trained(tmp_path / str(on), gradient_checkpointing=on) for on in (False, True))
    torch.testing.assert_close(again, kept, rtol=1e-4, atol=1e-5)
    if device.type == "cuda":
        note("peak memory of supervised training, activations kept", more, "MiB")
        note("peak memory of supervised training, activations recomputed", less, "MiB")
        assert less < more


def test_bfloat16_learns_what_float32_learns(device: torch.device, tmp_path: Path) -> None:
    start = torch.cat([weights.detach().flatten() for weights in small_llama(0, CPU).parameters()])
    (exact, loss, _), (rounded, other, _) = (trained(tmp_path / name, precision=name) for name in ("float32", "bfloat16"))
    assert other == pytest.approx(loss, rel=0.01)
    assert rounded.dtype == torch.float32
    # AdamW's first steps are as long as the rate in every weight, so directions of tiny gradients may differ.
    assert float(torch.nn.functional.cosine_similarity(exact - start, rounded - start, dim=0)) > 0.8


def test_compiled_blocks_learn_the_same(gpu: torch.device, tmp_path: Path) -> None:
    (plain, _, _), (compiled, _, _) = (trained(tmp_path / str(on), compile=on) for on in (False, True))
    assert float((plain - compiled).abs().mean()) < 1e-5
