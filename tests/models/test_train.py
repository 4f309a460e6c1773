"""The supervised loop: schedule, packing, normalisation, resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from data.errors import MathQuarryError
from data.workspace import Workspace
from models.config import ScheduleConfig, TrainConfig
from models.packing import IGNORED, Epochs, PackedRows, pack
from models.train import Batch, fit, language_model_loss, rows_per_step, schedule_factor


def small_model(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=False,
        )
    )


def some_examples(count: int, seed: int = 0, longest: int = 12) -> list[tuple[list[int], list[int]]]:
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        ids = rng.integers(1, 50, size=rng.integers(4, longest + 1)).tolist()
        examples.append((ids, [IGNORED, IGNORED, *ids[2:]]))
    return examples


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


def batch_of(rows: PackedRows) -> Batch:
    return {key: torch.from_numpy(np.stack([rows[i][key] for i in range(len(rows))])) for key in ("input_ids", "position_ids", "labels")}  # type: ignore[literal-required]


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1 / 2000), (999, 0.5), (1999, 1.0), (2000, 1.0), (39_999, 1.0), (40_000, 0.316), (44_999, 0.316), (45_000, 0.1), (49_999, 0.1)],
)
def test_multi_step_schedule_is_the_papers(step: int, factor: float) -> None:
    assert schedule_factor(ScheduleConfig(), step, 50_000) == pytest.approx(factor)


def test_cosine_falls_from_the_peak_to_its_share() -> None:
    schedule = ScheduleConfig(kind="cosine", warmup_steps=10, final_share=0.1)
    assert schedule_factor(schedule, 10, 110) == 1.0
    assert schedule_factor(schedule, 60, 110) == pytest.approx(0.55)
    assert schedule_factor(schedule, 110, 110) == pytest.approx(0.1)
    assert schedule_factor(ScheduleConfig(kind="constant", warmup_steps=0), 7, 10) == 1.0


def test_examples_are_packed_whole_and_too_long_ones_are_counted() -> None:
    examples = [*some_examples(40), (list(range(17)), list(range(17)))]
    rows = pack(examples, 16, seed=3)
    assert rows.dropped == 1
    assert sorted(example for row in rows.rows for example in row) == list(range(40))
    for i, members in enumerate(rows.rows):
        start = 0
        for example in members:
            ids, labels = examples[example]
            part = slice(start, start + len(ids))
            assert rows[i]["input_ids"][part].tolist() == ids
            assert rows[i]["labels"][part].tolist() == labels
            assert rows[i]["position_ids"][part].tolist() == list(range(len(ids)))
            start += len(ids)
        assert (rows[i]["labels"][start:] == IGNORED).all()
    tokens = sum(len(ids) for ids, _ in examples[:40])
    assert tokens / (len(rows) * 16) > 0.8
    with pytest.raises(MathQuarryError, match="no example fits context_tokens = 3"):
        pack(examples, 3, seed=0)


def test_number_labels_are_padded_with_nan() -> None:
    row = pack([([5, 6, 7], [math.nan, 0.0, 1.0])], 5, seed=0)[0]
    np.testing.assert_array_equal(row["labels"], np.array([math.nan, 0, 1, math.nan, math.nan], dtype=np.float32))


def test_packed_rows_give_the_loss_and_gradient_of_padded_examples() -> None:
    examples = some_examples(12)
    model = small_model()
    count = torch.tensor(sum(label != IGNORED for _, labels in examples for label in labels))

    language_model_loss(model, batch_of(pack(examples, 32, seed=0)), count).backward()
    packed = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    total = torch.zeros(())
    for ids, labels in examples:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum", ignore_index=IGNORED) / count
    total.backward()
    alone = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert language_model_loss(model, batch_of(pack(examples, 32, seed=0)), count).item() == pytest.approx(total.item(), abs=1e-5)
    for one, other in zip(packed, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_an_example_does_not_see_its_neighbours_in_the_row() -> None:
    model = small_model().eval()
    second = [7, 8, 9, 10]
    for first in ([1, 2, 3], [4, 5, 6]):
        rows = PackedRows([(first, first), (second, second)], [[0, 1]], 10, 0)
        row = batch_of(rows)
        hidden = model.base_model(input_ids=row["input_ids"], position_ids=row["position_ids"], use_cache=False).last_hidden_state
        alone = model.base_model(input_ids=torch.tensor([second])).last_hidden_state
        torch.testing.assert_close(hidden[:, 3:7], alone)


def train(space: Workspace, steps: int = 6, **changes: object) -> tuple[dict[str, torch.Tensor], dict]:
    model = small_model()
    settings = config(**changes)
    summary = fit(model, Epochs(pack(some_examples(40), 16, seed=0), seed=0), settings, steps, space, "train", language_model_loss)
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

    batch = {key: torch.from_numpy(np.stack([rows[i][key] for i in range(6)])) for key in ("input_ids", "position_ids", "labels")}  # type: ignore[literal-required]
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
    """Stands for a signal."""


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
    space = Workspace.at(tmp_path / "killed")
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    with pytest.raises(Killed):
        fit(small_model(), rows, config(), 6, space, "train", killing_loss(killed_after))
    torch.rand(7)  # the generator's state at restart must not matter
    resumed, again = train(space)
    assert again == summary
    assert all(torch.equal(weight, resumed[name]) for name, weight in uninterrupted.items())
    assert [record["step"] for record in space.metrics.read()] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_that_was_being_written_is_not_taken(tmp_path: Path) -> None:
    uninterrupted, _ = train(Workspace.at(tmp_path / "whole"))
    space = Workspace.at(tmp_path / "killed")
    half = space.scratch / "train" / "partial" / "checkpoint-4"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    resumed, _ = train(space)
    assert all(torch.equal(weight, resumed[name]) for name, weight in uninterrupted.items())
    assert [path.name for path in (space.scratch / "train").glob("checkpoint-*")] == ["checkpoint-6"]


def test_a_finished_run_is_only_loaded(tmp_path: Path) -> None:
    space = Workspace.at(tmp_path)
    first, summary = train(space)
    model = small_model(seed=9)
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    assert fit(model, rows, config(), 6, space, "train", killing_loss(0)) == summary
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in first.items())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        model.lm_head.weight[3] = math.inf  # type: ignore[union-attr, operator]
    rows = Epochs(pack(some_examples(40), 16, seed=0), seed=0)
    space = Workspace.at(tmp_path)
    with pytest.raises(MathQuarryError, match="step 1 has loss"):
        fit(model, rows, config(checkpoint_steps=1), 2, space, "train", language_model_loss)
    assert not list((space.scratch / "train").glob("checkpoint-*"))


def test_bfloat16_autocast_keeps_float32_weights_and_nearly_the_loss(tmp_path: Path) -> None:
    _, exact = train(Workspace.at(tmp_path / "a"), steps=2)
    weights, rough = train(Workspace.at(tmp_path / "b"), steps=2, precision="bfloat16")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert rough["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert rough["loss"] != exact["loss"]


def test_a_batch_without_a_row_is_an_error() -> None:
    with pytest.raises(MathQuarryError, match="batch_tokens is 10"):
        rows_per_step(config(batch_tokens=10))
