"""The peak memory of a training loop on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mathquarry.models import peak
from mathquarry.models.peak import PeakMemory, tensors_of

MIB = 2**20
pytestmark = pytest.mark.skipif(torch.cuda.is_available() or not peak.STATUS.exists(), reason="measures resident memory on Linux")


def filled(mib: int) -> torch.Tensor:
    return torch.ones(mib * MIB // 4)


def trainer_mib(memory: PeakMemory) -> float:
    return memory.metrics()["trainer_gib"] * 1024


def test_what_the_loop_held_before_and_its_peak_count_and_nothing_else() -> None:
    others, held = filled(64), filled(48)
    del others
    beside = filled(32)
    memory = PeakMemory([held, held[:10]])
    assert trainer_mib(memory) == pytest.approx(48, abs=8)
    peaked = filled(96)
    del peaked
    assert trainer_mib(memory) == pytest.approx(48 + 96, abs=8)
    assert memory.metrics()["peak_gib"] * 1024 > trainer_mib(memory) + 32
    assert len(beside) == 32 * MIB // 4


def test_weights_that_are_mapped_from_a_file_count_once(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(64 * MIB))
    held = torch.from_file(str(tmp_path / "weights"), shared=False, size=16 * MIB)
    memory = PeakMemory([held])
    assert trainer_mib(memory) == pytest.approx(64, abs=8)
    held += 1
    assert trainer_mib(memory) == pytest.approx(64, abs=8)


def test_where_the_peak_cannot_be_forgotten_only_that_of_the_process_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "CLEAR", tmp_path / "missing" / "clear_refs")
    (value,) = PeakMemory([]).metrics().items()
    assert value[0] == "peak_gib"
    assert value[1] > 0.05


def test_the_tensors_of_a_model_and_of_its_optimizer_are_weights_buffers_and_moments() -> None:
    model = nn.BatchNorm1d(4)
    optimizer = torch.optim.AdamW(model.parameters())
    assert list(tensors_of(optimizer)) == []
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert sum(tensor.numel() for tensor in tensors_of(model)) == 2 * 4 + 2 * 4 + 1
    assert sum(tensor.numel() for tensor in tensors_of(optimizer)) == 2 * (2 * 4 + 1)
