"""Pretraining and fine-tuning from start to end on a few documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.solutions.example import Example, Segment, write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.logprobs.head import head_logprobs
from mathquarry.models.policy.checkpoint import load_policy, load_tokenizer
from mathquarry.models.policy.config import ScratchModel
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.train.batches import Batch, stack
from mathquarry.models.train.config import MixSource, PretrainConfig, ScheduleConfig, SFTConfig
from mathquarry.models.train.fit import language_model_loss
from mathquarry.models.train.packing import IGNORED, PackedRows, pack
from mathquarry.models.train.pretrain import pretrain
from mathquarry.models.train.sft import finetune, label_solutions

TINY = ScratchModel(layers=1, hidden=16, heads=2, intermediate=32, vocabulary=300)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "mined" / "corpus"
    folder.mkdir(parents=True)
    for part in range(2):
        texts = [f"Page {part}-{i}: the sum of {i} and {part} is {i + part}.\nSo it goes." for i in range(30)]
        pq.write_table(pa.table({"text": texts}), folder / f"part-{part:04d}.parquet")
    return tmp_path / "mined"


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    folder = tmp_path / "problems"
    write_problems(
        folder / "train.jsonl",
        [Problem(str(i), f"Tom has {i} apples and gets 2. How many?", str(i + 2), f"{i} + 2 = <<{i}+2={i + 2}>>{i + 2}") for i in range(9)],
    )
    return folder


@pytest.fixture
def make_workspace(tmp_path: Path) -> Callable[[str], Workspace]:
    return lambda name: Workspace.at(tmp_path / name)


def pretrain_config(**changes: object) -> PretrainConfig:
    settings: dict = {
        "learning_rate": 1e-3,
        "batch_tokens": 128,
        "context_tokens": 32,
        "total_tokens": 128 * 6,
        "shard_tokens": 300,
        "precision": "float32",
        "checkpoint_steps": 2,
        "schedule": ScheduleConfig(warmup_steps=1),
    }
    return PretrainConfig(**{**settings, **changes})


def examples() -> list[Example]:
    return [
        Example("a", "1 + 1?", "cot", "en", [Segment("1 + 1 = 2\n"), Segment(r"\boxed{2}")], "2"),
        Example(
            "b",
            "2 + 2?",
            "tool",
            "en",
            [Segment("```python\nprint(4)\n```\n"), Segment("```output\n4\n```\n", False), Segment(r"\boxed{4}")],
            "4",
        ),
    ]


def test_pretraining_writes_a_checkpoint_and_says_how_often_each_source_was_read(
    corpus: Path, problems: Path, tmp_path: Path, make_workspace: Callable[[str], Workspace]
) -> None:
    extra = tmp_path / "extra.jsonl"
    extra.write_text("".join(json.dumps({"text": f"More text {i}."}) + "\n" for i in range(20)), encoding="utf-8")
    config = pretrain_config(mix=[MixSource(name="corpus", weight=3), MixSource(name="extra", weight=1, path=str(extra))])
    workspace = make_workspace("run")
    summary = pretrain(TINY, config, corpus, problems, workspace)
    assert summary["steps"] == 6
    assert summary["corpus_tokens_trained"] == 3 * summary["extra_tokens_trained"] == 18 * 32
    assert summary["extra_epochs"] > 0
    policy, tokenizer = load_policy(workspace.out / "model"), load_tokenizer(workspace.out / "model")
    assert policy.config.vocab_size == len(tokenizer) <= 300
    assert Prompter.load(workspace.out / "model").style == "short"
    assert [record["step"] for record in workspace.metrics.read()] == [1, 2, 3, 4, 5, 6]


def test_pretraining_twice_gives_the_same_bytes(corpus: Path, problems: Path, make_workspace: Callable[[str], Workspace]) -> None:
    workspaces = [make_workspace("one"), make_workspace("two")]
    summaries = [pretrain(TINY, pretrain_config(), corpus, problems, workspace) for workspace in workspaces]
    assert summaries[0] == summaries[1]
    files = [sorted(path.name for path in (workspace.out / "model").iterdir()) for workspace in workspaces]
    assert files[0] == files[1]
    for name in files[0]:
        assert (workspaces[0].out / "model" / name).read_bytes() == (workspaces[1].out / "model" / name).read_bytes(), name


def test_less_than_one_step_is_an_error(corpus: Path, problems: Path, make_workspace: Callable[[str], Workspace]) -> None:
    with pytest.raises(MathQuarryError, match="total_tokens is 100"):
        pretrain(TINY, pretrain_config(total_tokens=100), corpus, problems, make_workspace("run"))


@pytest.fixture
def base(corpus: Path, problems: Path, make_workspace: Callable[[str], Workspace]) -> Path:
    workspace = make_workspace("base")
    pretrain(TINY, pretrain_config(total_tokens=128), corpus, problems, workspace)
    return workspace.out / "model"


def test_loss_is_on_trained_segments_and_the_end_only(base: Path) -> None:
    prompter = Prompter.load(base)
    tokenizer = prompter.tokenizer
    for (tokens, labels), example in zip(label_solutions(prompter, examples()), examples(), strict=True):
        prompt = prompter.encode(example.question, example.format)
        assert tokens[: len(prompt)].tolist() == prompt
        assert (labels[: len(prompt)] == IGNORED).all()
        assert tokenizer.decode(tokens[len(prompt) :]) == example.text + tokenizer.eos_token
        trained = "".join(segment.text for segment in example.segments if segment.trained)
        assert tokenizer.decode(tokens[labels != IGNORED]) == trained + tokenizer.eos_token
        assert (labels[labels != IGNORED] == tokens[labels != IGNORED]).all()


def test_fine_tuning_counts_what_it_drops(base: Path, tmp_path: Path, make_workspace: Callable[[str], Workspace]) -> None:
    long = Example("c", "Long?", "cot", "en", [Segment("x " * 500)], "x")
    write_examples(tmp_path / "solutions" / "examples.jsonl", [*examples(), long])
    config = SFTConfig(batch_tokens=128, context_tokens=128, steps=3, precision="float32")
    before = load_policy(base).state_dict()
    workspace = make_workspace("sft")
    summary = finetune(config, base, [tmp_path / "solutions"], workspace)
    assert (summary["examples_cot"], summary["examples_tool"], summary["examples_too_long"]) == (1, 1, 1)
    after = load_policy(workspace.out / "model").state_dict()
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    assert all(np.isfinite(value) for record in workspace.metrics.read() for value in record["values"].values())


def test_the_loss_of_each_format_and_language_is_logged_before_and_after(
    base: Path, tmp_path: Path, make_workspace: Callable[[str], Workspace]
) -> None:
    write_examples(tmp_path / "solutions" / "examples.jsonl", examples())
    config = SFTConfig(batch_tokens=256, context_tokens=128, steps=3, precision="float32", learning_rate=1e-3)
    workspace = make_workspace("sft")
    finetune(config, base, [tmp_path / "solutions"], workspace)
    logged = [record for record in workspace.metrics.read() if "loss_en" in record["values"]]
    assert [record["step"] for record in logged] == [0, 3]
    assert set(logged[0]["values"]) == {"loss_cot", "loss_tool", "loss_en"}
    assert all(logged[1]["values"][name] < value for name, value in logged[0]["values"].items())


def test_prompt_and_tool_tokens_have_exactly_no_gradient_and_packed_equals_padded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = label_solutions(Prompter.load(base), examples())
    policy = load_policy(base)

    def loss_and_gradients(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
        policy.zero_grad()
        count = torch.tensor(float(sum((batch["labels"] != IGNORED).sum() for batch in batches)))
        losses = [language_model_loss(policy, batch, count) for batch in batches]
        total = torch.stack(losses).sum()
        total.backward()
        return total.detach(), torch.cat([parameter.grad.flatten() for parameter in policy.parameters() if parameter.grad is not None])

    def batch_of(rows: PackedRows) -> Batch:
        return stack([rows[place] for place in range(len(rows))])

    packed = pack(labelled, 256, seed=0)
    assert len(packed) == 1, "both examples share a row"
    padded = [batch_of(pack([example], 256, seed=0)) for example in labelled]
    loss, gradients = loss_and_gradients([batch_of(packed)])
    other_loss, other_gradients = loss_and_gradients(padded)
    torch.testing.assert_close(loss, other_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradients, other_gradients, atol=1e-5, rtol=0)

    unlabelled = batch_of(packed)
    unlabelled["labelled"] = torch.tensor([], dtype=torch.int64)
    assert language_model_loss(policy, unlabelled, torch.tensor(1.0)).item() == 0.0
    # The head sees only positions that predict a labelled token, so every other position's logits do not exist.
    seen: list[int] = []

    def head(hidden_ND: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        seen.append(len(hidden_ND))
        return head_logprobs(hidden_ND, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("mathquarry.models.train.fit.head_logprobs", head)
    language_model_loss(policy, batch_of(packed), torch.tensor(1.0))
    trained = sum(int((labels != IGNORED).sum()) for _, labels in labelled)
    assert seen == [trained]


def test_the_loss_gradient_at_every_token_that_predicts_a_prompt_or_tool_token_is_exactly_zero(base: Path) -> None:
    policy = load_policy(base)
    for tokens, labels in label_solutions(Prompter.load(base), examples()):
        batch = stack([pack([(tokens, labels)], 256, seed=0)[0]])
        states: list[torch.Tensor] = []

        def keep(_module: object, _inputs: object, completion: object, states: list[torch.Tensor] = states) -> None:
            completion.last_hidden_state.retain_grad()  # type: ignore[attr-defined]
            states.append(completion.last_hidden_state)  # type: ignore[attr-defined]

        hook = policy.base_model.register_forward_hook(keep)
        language_model_loss(policy, batch, torch.tensor(1.0)).backward()
        hook.remove()
        assert states[0].grad is not None
        gradient_T = states[0].grad[0].abs().amax(dim=-1)
        predicts_trained_T = torch.cat([batch["labels"][0, 1:] != IGNORED, torch.tensor([False])])
        assert 0 < int(predicts_trained_T.sum()) < len(predicts_trained_T)
        assert (gradient_T[~predicts_trained_T] == 0).all()
        assert (gradient_T[predicts_trained_T] > 0).all()


def test_nothing_that_fits_is_an_error_naming_the_file(base: Path, tmp_path: Path, make_workspace: Callable[[str], Workspace]) -> None:
    write_examples(tmp_path / "solutions" / "examples.jsonl", examples())
    config = SFTConfig(batch_tokens=128, context_tokens=4, steps=3, precision="float32")
    with pytest.raises(MathQuarryError, match=r"examples\.jsonl.*context_tokens = 4"):
        finetune(config, base, [tmp_path / "solutions"], make_workspace("sft"))
