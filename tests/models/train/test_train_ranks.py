"""The supervised loop on several ranks: real processes, gloo, FSDP2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.train.config import TrainConfig
from mathquarry.models.train.fit import LossFunction, fit, language_model_loss
from mathquarry.models.train.packing import Epochs, pack
from tests.models.rank_work import KillingLoss, small_model
from tests.models.train.test_packing import some_examples
from tests.models.train.test_train import config

pytestmark = pytest.mark.slow

Weights = dict[str, torch.Tensor]
STEPS = 6


def train(
    folder: Path, ranks: int, seed: int = 0, loss: LossFunction = language_model_loss, **changes: object
) -> tuple[Weights, list[float]]:
    """Weights and losses of a run on this many ranks; 7 rows a step, which neither 2 nor 3 ranks share evenly."""
    workspace, model = Workspace.at(folder), small_model(seed)
    settings: TrainConfig = config(batch_tokens=7 * 16, micro_batch_rows=2, ranks=RanksConfig(processes=ranks), **changes)
    fit(model, Epochs(pack(some_examples(60), 16, seed=0), seed=0), settings, STEPS, workspace, "train", loss)
    records = workspace.metrics.read()
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    assert not model.training
    return model.state_dict(), [record["values"]["loss"] for record in records]


def expect_close(one: tuple[Weights, list[float]], other: tuple[Weights, list[float]]) -> None:
    assert one[1] == pytest.approx(other[1], abs=1e-5)
    for name, weight in one[0].items():
        torch.testing.assert_close(other[0][name], weight, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, list[float]]:
    return train(tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, list[float]]:
    return train(tmp_path_factory.mktemp("together"), 2)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two ranks, one of which was killed in step 4; its checkpoint is of step 2."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(MathQuarryError, match=r"rank 1 \(process \d+\) was ended by SIGKILL; .* Run again"):
        train(folder, 2, loss=KillingLoss(at=3 * 2 + 1))
    assert [path.name for path in (folder / "scratch" / "train").glob("checkpoint-*")] == ["checkpoint-2"]
    return folder


def test_two_ranks_train_as_one(alone: tuple[Weights, list[float]], together: tuple[Weights, list[float]]) -> None:
    expect_close(together, alone)


def test_a_run_whose_rank_died_ends_with_the_bits_of_an_uninterrupted_one(
    stopped: Path, together: tuple[Weights, list[float]], tmp_path: Path
) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    # Weights come from the checkpoint, not from the model that is handed in.
    weights, losses = train(tmp_path / "run", 2, seed=9)
    assert losses == together[1]
    assert all(torch.equal(weight, weights[name]) for name, weight in together[0].items())


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_checkpoint_of_two_ranks_is_continued_by_one_and_by_three(
    stopped: Path, alone: tuple[Weights, list[float]], tmp_path: Path, ranks: int
) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    expect_close(train(tmp_path / "run", ranks, seed=9), alone)


def test_options_of_the_loop_do_not_change_what_ranks_learn(alone: tuple[Weights, list[float]], tmp_path: Path) -> None:
    expect_close(train(tmp_path, 2, gradient_checkpointing=True, background_checkpoints=True), alone)
