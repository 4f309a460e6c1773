"""Two ranks: each on its own GPU if there are two, else both on one, which is slow but correct."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mathquarry.data.store.workspace import Workspace
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.ranks.launch import launch
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.update import Experience
from tests.models.rl.rank_work import two_steps

GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (4, 4, 9, 9, 2, 2, 6, 6)]
COMPLETIONS = [torch.randint(3, 300, (length,), generator=GENERATOR).tolist() for length in (3, 7, 1, 5, 30, 2, 6, 4)]
EXPERIENCE = Experience(PROMPTS, COMPLETIONS, torch.randn(8, 30, generator=GENERATOR))
CONFIG = GRPOConfig(precision="float32", learning_rate=1e-3, micro_batch_tokens=16)


def test_two_ranks_update_as_one_does(device: torch.device, tmp_path: Path) -> None:
    one = two_steps(Workspace.at(tmp_path / "one"), EXPERIENCE, CONFIG)
    two = launch(two_steps, (EXPERIENCE, CONFIG), RanksConfig(processes=2), Workspace.at(tmp_path / "two"), "update")
    for name, weights in one["weights"].items():
        torch.testing.assert_close(two["weights"][name].cpu(), weights.cpu(), rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(two["metrics"], one["metrics"], strict=True):
        for name in ("loss", "kl", "gradient_norm", "ratio_mean"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4)
