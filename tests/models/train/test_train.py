"""The supervised loop: schedule, normalisation, resume."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.train.batches import Batch, stack
from mathquarry.models.train.config import PretrainConfig, ScheduleConfig, SFTConfig, TrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.optimizer import rows_per_step, schedule_factor
from mathquarry.models.train.packing import IGNORED, Epochs, pack
from mathquarry.models.train.speed import flops_per_token
from tests.models.rank_work import small_model
from tests.models.train.test_packing import some_examples


def config(**changes: object) -> TrainConfig:
    settings: dict = {
        "learning_rate": 1e-2,
        "batch_tokens": 6 * 16,
        "context_tokens": 16,
        "micro_batch_rows": 6,
        "precision": "float32",
        "checkpoint_steps": 2,
        "schedule": ScheduleConfig(kind="cosine", warmup_steps=2),
    }
    return TrainConfig(**{**settings, **changes})


@pytest.mark.parametrize("steps", [37_500, 50_000])
def test_multi_step_schedule_is_the_papers_at_every_step(steps: int) -> None:
    """Warm-up of 2,000 steps, 31.6 % of the peak after 80 % of the steps, 10 % after 90 % (section 2.2); 150B/4M and 500B/10M steps."""
    first, second = steps * 8 // 10, steps * 9 // 10
    paper = [*((step + 1) / 2000 for step in range(2000)), *[1.0] * (first - 2000), *[0.316] * (second - first), *[0.1] * (steps - second)]
    assert [schedule_factor(ScheduleConfig(), step, steps) for step in range(steps)] == paper


def test_batch_sizes_are_in_tokens_and_the_papers() -> None:
    assert PretrainConfig().batch_tokens == 10_000_000
    assert PretrainConfig().total_tokens // PretrainConfig().batch_tokens == 50_000
    assert SFTConfig().batch_tokens == 256 * 4096


def test_cosine_falls_from_the_peak_to_its_share() -> None:
    schedule = ScheduleConfig(kind="cosine", warmup_steps=10, final_share=0.1)
    assert schedule_factor(schedule, 10, 110) == 1.0
    assert schedule_factor(schedule, 60, 110) == pytest.approx(0.55)
    assert schedule_factor(schedule, 110, 110) == pytest.approx(0.1)
    assert schedule_factor(ScheduleConfig(kind="constant", warmup_steps=0), 7, 10) == 1.0


def train(workspace: Workspace, steps: int = 6, **changes: object) -> tuple[dict[str, torch.Tensor], dict]:
    model = small_model()
    settings = config(**changes)
    summary = fit(model, Epochs(pack(some_examples(40), 16, seed=0), seed=0), settings, steps, workspace, "train", language_model_loss)
    return model.state_dict(), summary


def test_micro_batches_do_not_change_what_is_learnt(tmp_path: Path) -> None:
    whole, _ = train(Workspace.at(tmp_path / "whole"))
    for micro in (1, 2, 4):
        parts, _ = train(Workspace.at(tmp_path / str(micro)), micro_batch_rows=micro)
        for name, weight in whole.items():
            torch.testing.assert_close(parts[name], weight, atol=1e-5, rtol=1e-5)


def test_the_first_step_is_adamw_on_the_mean_over_all_labels_of_the_step(tmp_path: Path) -> None:
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    settings = config(schedule=ScheduleConfig(kind="constant", warmup_steps=0), micro_batch_rows=2)
    ours, reference = small_model(), small_model()
    fit(ours, rows, settings, 1, Workspace.at(tmp_path), "train", language_model_loss)

    batch = stack([rows[i] for i in range(6)])
    decayed = [p for name, p in reference.named_parameters() if "norm" not in name]
    norms = [p for name, p in reference.named_parameters() if "norm" in name]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": norms, "weight_decay": 0.0}], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1
    )
    language_model_loss(reference, batch, (batch["labels"] != IGNORED).sum()).backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    optimizer.step()
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


class Killed(BaseException):
    """Simulates a signal."""


def killing_loss(at_call: int) -> Callable[[PreTrainedModel, Batch, torch.Tensor], torch.Tensor]:
    calls = 0

    def loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > at_call:
            raise Killed
        return language_model_loss(model, batch, count)

    return loss


@pytest.mark.parametrize("killed_after", [1, 3, 4, 5])
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path, killed_after: int) -> None:
    uninterrupted, summary = train(Workspace.at(tmp_path / "whole"))
    workspace = Workspace.at(tmp_path / "killed")
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    with pytest.raises(Killed):
        fit(small_model(), rows, config(), 6, workspace, "train", killing_loss(killed_after))
    torch.rand(7)  # the generator's state at restart must not matter
    resumed, again = train(workspace)
    assert again == summary
    assert all(torch.equal(weight, resumed[name]) for name, weight in uninterrupted.items())
    assert [record["step"] for record in workspace.metrics.read()] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_that_was_being_written_is_not_taken(tmp_path: Path) -> None:
    uninterrupted, _ = train(Workspace.at(tmp_path / "whole"))
    workspace = Workspace.at(tmp_path / "killed")
    half = workspace.scratch / "train" / "partial" / "checkpoint-4"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    resumed, _ = train(workspace)
    assert all(torch.equal(weight, resumed[name]) for name, weight in uninterrupted.items())
    assert [path.name for path in (workspace.scratch / "train").glob("checkpoint-*")] == ["checkpoint-6"]


def test_a_finished_run_is_only_loaded(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    first, summary = train(workspace)
    model = small_model(seed=9)
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    assert fit(model, rows, config(), 6, workspace, "train", killing_loss(0)) == summary
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in first.items())


def faulty_loss(at_call: int, factor: float) -> Callable[[PreTrainedModel, Batch, torch.Tensor], torch.Tensor]:
    calls = 0

    def loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return language_model_loss(model, batch, count) * (factor if calls == at_call else 1.0)

    return loss


@pytest.mark.parametrize(
    ("step", "factor", "message"),
    [(4, math.nan, "step 4 has loss nan and gradient norm nan. Lower learning_rate"), (7, 9.0, "above the median of the previous steps")],
)
def test_a_bad_batch_stops_the_run_is_kept_and_can_be_passed_over(tmp_path: Path, step: int, factor: float, message: str) -> None:
    workspace, rows = Workspace.at(tmp_path), Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    with pytest.raises(MathQuarryError, match=message) as stopped:
        fit(small_model(), rows, config(), 9, workspace, "train", faulty_loss(step, factor))
    kept = workspace.scratch / "train" / f"bad-batch-{step}.npz"
    assert str(kept) in str(stopped.value)
    assert f"rows {6 * step - 6} to {6 * step - 1} of the run" in str(stopped.value)
    with np.load(kept) as batch:
        assert batch["places"].tolist() == list(range(6 * step - 6, 6 * step))
        for row, place in enumerate(batch["places"]):
            np.testing.assert_array_equal(batch["input_ids"][row], rows[place]["input_ids"])
            np.testing.assert_array_equal(batch["labels"][row], rows[place]["labels"])
    newest = (step - 1) // 2 * 2
    assert [path.name for path in (workspace.scratch / "train").glob("checkpoint-*")] == [f"checkpoint-{newest}"]

    # calls after the checkpoint: the loss would be bad again at the same step
    again = faulty_loss(step - newest, factor)
    with pytest.raises(MathQuarryError, match=f"step {step} has"):
        fit(small_model(seed=9), rows, config(), 9, workspace, "train", again)
    result = fit(small_model(seed=9), rows, config(skipped_steps=[step]), 9, workspace, "train", language_model_loss)
    assert result["skipped_steps"] == 1
    assert [record["step"] for record in workspace.metrics.read()] == [number for number in range(1, 10) if number != step]


def test_a_leap_below_the_limit_or_without_one_goes_through(tmp_path: Path) -> None:
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    fit(small_model(), rows, config(loss_spike=None), 7, Workspace.at(tmp_path), "train", faulty_loss(7, 9.0))


def test_options_of_the_loop_do_not_change_the_weights(tmp_path: Path) -> None:
    plain, _ = train(Workspace.at(tmp_path / "plain"))
    for option in ("gradient_checkpointing", "background_checkpoints"):
        weights, _ = train(Workspace.at(tmp_path / option), **{option: True})
        assert all(torch.equal(weight, weights[name]) for name, weight in plain.items())


@pytest.mark.parametrize("asked", [False, True])
def test_examples_of_a_row_see_each_other_only_when_asked(tmp_path: Path, asked: bool) -> None:
    seen = []

    def loss(model: PreTrainedModel, batch: Batch, count: torch.Tensor) -> torch.Tensor:
        seen.append(batch["position_ids"])
        return language_model_loss(model, batch, count)

    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    fit(small_model(), rows, config(attend_across_documents=asked), 1, Workspace.at(tmp_path), "train", loss)
    one_document = torch.arange(16).expand(6, 16)
    assert torch.equal(seen[0], one_document) == asked


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    plain, _ = train(Workspace.at(tmp_path / "plain"), steps=2)
    compiled, _ = train(Workspace.at(tmp_path / "compiled"), steps=2, compile=True)
    for name, weight in plain.items():
        torch.testing.assert_close(compiled[name], weight, atol=1e-5, rtol=1e-5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system for this test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no right to mount a small file system: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_while_saving_is_reported_and_the_run_resumes_once_there_is_room(
    small_disk: Path, tmp_path: Path, background: bool
) -> None:
    uninterrupted, _ = train(Workspace.at(tmp_path / "whole"))
    workspace = dataclasses.replace(Workspace.at(tmp_path / "run"), scratch=small_disk)
    checkpoint = sum(file.stat().st_size for file in (tmp_path / "whole" / "scratch" / "train" / "checkpoint-6").iterdir())
    subprocess.run(["mount", "-o", f"remount,size={3 * checkpoint // 2}", small_disk], check=True)
    with pytest.raises(MathQuarryError, match="cannot write a checkpoint to .*[Nn]o space left.* Free some space, then run again"):
        train(workspace, background_checkpoints=background)
    assert [path.name for path in (small_disk / "train").glob("checkpoint-*")] == ["checkpoint-2"]
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    resumed, _ = train(workspace, background_checkpoints=background)
    assert all(torch.equal(weight, resumed[name]) for name, weight in uninterrupted.items())


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    train(workspace)
    (workspace.scratch / "train" / "checkpoint-6" / "__0_0.distcp").write_bytes(b"cut")
    with pytest.raises(MathQuarryError, match="cannot read the checkpoint .*checkpoint-6"):
        train(workspace)


def test_speed_is_logged_for_every_step(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    train(workspace)
    for record in workspace.metrics.read():
        values = record["values"]
        assert {"loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "peak_gib", "seconds_left"} <= set(values)
        flops = values["tokens_per_second"] * flops_per_token(small_model(), 16) / 1e12
        assert values["model_tflops"] == pytest.approx(flops, abs=1e-6)
    assert workspace.metrics.read()[-1]["values"]["seconds_left"] == 0


def test_flops_of_a_token_are_six_a_weight_and_attention() -> None:
    # 2 layers of 4 x 16 x 16 + 3 x 16 x 32 weights and two norms, a norm, and a head of 16 x 50; embeddings are looked up
    weights = 2 * (4 * 16 * 16 + 3 * 16 * 32 + 2 * 16) + 16 + 16 * 50
    assert flops_per_token(small_model(), 64) == 6 * weights + 12 * 2 * 16 * 64


def test_bfloat16_autocast_keeps_float32_weights_and_nearly_the_loss(tmp_path: Path) -> None:
    _, exact = train(Workspace.at(tmp_path / "a"), steps=2)
    weights, rough = train(Workspace.at(tmp_path / "b"), steps=2, precision="bfloat16")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert rough["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert rough["loss"] != exact["loss"]


def test_a_batch_without_a_row_is_an_error() -> None:
    with pytest.raises(MathQuarryError, match="batch_tokens is 10"):
        rows_per_step(config(batch_tokens=10))
