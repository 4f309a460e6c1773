"""Held-out text: bits per byte, measured during training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.tokenizer import encode, train_tokenizer
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.train.batches import stack
from mathquarry.models.train.config import HeldOutText, TrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.held_out import held_out_rows
from mathquarry.models.train.measurement import HeldOut, Measurement
from mathquarry.models.train.packing import Epochs, pack
from tests.models.rank_work import small_model
from tests.models.train.test_packing import some_examples
from tests.models.train.test_train import config

TEXTS = ["The sum is 7.", "Two and two are four, and four and four are eight: no more than that."]
STEPS = 6


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(TEXTS * 10, 300)


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(tmp_path / "held.jsonl")


def nats(model: torch.nn.Module, ids: list[int], first: int) -> float:
    """Loss of the tokens from `first` on, computed without packing."""
    logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(float(logits[place - 1, ids[place]]) for place in range(first, len(ids)))


def test_bits_are_those_of_each_document_by_itself(tokenizer: PreTrainedTokenizerBase, source: str, tmp_path: Path) -> None:
    from mathquarry.models.policy.checkpoint import new_policy

    model = new_policy(ScratchModel(layers=1, hidden=16, heads=2, intermediate=32, vocabulary=300), tokenizer, seed=0)
    held = held_out_rows(HeldOutText(name="text", path=source), tmp_path / "none", tokenizer, 64)
    documents = [[tokenizer.bos_token_id, *encode(tokenizer, text)] for text in TEXTS]
    expected = sum(nats(model, ids, 1) for ids in documents) / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert measured(model, held) == pytest.approx(expected, rel=1e-5)


def test_of_problems_only_the_solution_counts(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    from mathquarry.models.policy.checkpoint import new_policy

    problem = Problem("p", "How many are 3 and 4?", "7", "3+4=<<3+4=7>>7")
    write_problems(tmp_path / "test.jsonl", [problem])
    model = new_policy(ScratchModel(layers=1, hidden=16, heads=2, intermediate=32, vocabulary=300), tokenizer, seed=0)
    held = held_out_rows(HeldOutText(name="problems"), tmp_path / "test.jsonl", tokenizer, 64)
    asked = [tokenizer.bos_token_id, *encode(tokenizer, f"{problem.question}\n")]
    expected = nats(model, [*asked, *encode(tokenizer, "3+4=7")], len(asked)) / math.log(2) / len("3+4=7")
    assert measured(model, held) == pytest.approx(expected, rel=1e-5)


def measured(model, held: HeldOut) -> float:  # type: ignore[no-untyped-def]
    total = 0.0
    for place in range(len(held.rows)):
        total += float(language_model_loss(model, stack([held.rows[place]]), torch.ones(())).detach())
    return held.value(total)


def test_a_document_longer_than_the_context_is_cut(tokenizer: PreTrainedTokenizerBase, source: str, tmp_path: Path) -> None:
    held = held_out_rows(HeldOutText(name="text", path=source), tmp_path / "none", tokenizer, 16)
    assert held.rows.dropped == 0
    assert held.bytes == sum(len(text.encode()) for text in TEXTS)


def test_a_text_without_documents_is_named(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(MathQuarryError, match=r"held_out 'text': .*empty\.jsonl has no text"):
        held_out_rows(HeldOutText(name="text", path=str(tmp_path / "empty.jsonl")), tmp_path / "none", tokenizer, 16)


def train(folder: Path, measurement: Measurement, ranks: int = 1) -> tuple[dict[str, float | int], list[tuple[int, float]], bytes]:
    """Result, the logged bits, and the final weights' bytes."""
    workspace, model = Workspace.at(folder), small_model(0)
    settings: TrainConfig = config(ranks=RanksConfig(processes=ranks), micro_batch_rows=2)
    rows = Epochs(pack(some_examples(60), 16, seed=0), seed=0)
    result = fit(model, rows, settings, STEPS, workspace, "train", language_model_loss, measurement)
    logged = [(r["step"], r["values"]["some_bits"]) for r in workspace.metrics.read() if "some_bits" in r["values"]]
    return result, logged, b"".join(weight.numpy().tobytes() for weight in model.state_dict().values())


SOME = Measurement([HeldOut("some", pack(some_examples(9, seed=5), 16, seed=0), 100)], every=4)


def test_the_model_is_measured_before_during_and_after_and_learns_the_same(tmp_path: Path) -> None:
    result, logged, weights = train(tmp_path / "watched", SOME)
    assert [step for step, _ in logged] == [0, 4, 6]
    assert result["some_bits"] == logged[-1][1]
    assert len({bits for _, bits in logged}) == 3
    plain, nothing, unwatched = train(tmp_path / "plain", Measurement())
    assert weights == unwatched
    assert not nothing
    assert "some_bits" not in plain


def test_a_finished_run_that_is_resumed_knows_its_last_bits(tmp_path: Path) -> None:
    first, logged, _ = train(tmp_path, SOME)
    again, same, _ = train(tmp_path, SOME)
    assert again == first
    assert same == logged


@pytest.mark.slow
def test_two_ranks_measure_what_one_does(tmp_path: Path) -> None:
    _, one, _ = train(tmp_path / "one", SOME)
    _, two, _ = train(tmp_path / "two", SOME, ranks=2)
    assert [step for step, _ in two] == [step for step, _ in one]
    assert [bits for _, bits in two] == pytest.approx([bits for _, bits in one], rel=1e-5)
