"""Every field of a training loop changes its result: tiny runs with the field's default and with another value.

A run's record is all that can be seen of it from outside: weights, metrics but for times, files, or the error that it ended with. What
shows only after a kill (`checkpoint_steps`) or in long runs (`loss_spike`) is tested in `test_train.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.rl.config import METHODS, GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rl.paradigm import coefficients
from mathquarry.models.train.config import TrainConfig
from mathquarry.models.train.fit import fit, language_model_loss
from mathquarry.models.train.packing import Epochs, pack
from tests.models.rank_work import small_model
from tests.models.rl.tiny import save_policy, save_problems, save_reward, scored, tiny_policy
from tests.models.train.test_train import some_examples

Fields = Mapping[str, Any]
Record = tuple[Any, ...]

TIMES = ("seconds", "per_second", "tflops", "utilisation", "_gib", "eta")


def merged(values: Fields, changes: Fields) -> dict[str, Any]:
    """`values` with `changes`, whose names may contain dots: `optimizer.beta1`."""
    result = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    for place, value in changes.items():
        *outer, name = place.split(".")
        section = result
        for part in outer:
            section = section.setdefault(part, {})
        section[name] = value
    return result


def metrics_of(workspace: Workspace) -> tuple[Any, ...]:
    return tuple(
        (record["step"], tuple((name, value) for name, value in record["values"].items() if not any(word in name for word in TIMES)))
        for record in workspace.metrics.read()
    )


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(weights.detach().float().numpy().tobytes() for weights in state.values())).hexdigest()


TRAINING: dict[str, Any] = {
    "learning_rate": 1e-2,
    "batch_tokens": 3 * 16,
    "context_tokens": 16,
    "precision": "float32",
    "checkpoint_steps": 2,
    "optimizer": {"grad_clip": 0.5},
    "schedule": {"kind": "cosine", "warmup_steps": 1},
}
"""Six steps of it."""
MULTI = {"schedule.kind": "multi-step"}
LORA = {"lora.rank": 2}


@cache
def trained(changes: tuple[tuple[str, Any], ...]) -> Record:
    """The record of a supervised run."""
    config = TrainConfig(**merged(TRAINING, {name: list(value) if isinstance(value, tuple) else value for name, value in changes}))
    model = small_model(0)
    rows = pack(some_examples(40), config.context_tokens, 0)
    with TemporaryDirectory() as name:
        workspace = Workspace.at(Path(name))
        try:
            ended: Any = sorted(fit(model, Epochs(rows, 0), config, 6, workspace, "train", language_model_loss).items())
        except MathQuarryError as error:
            ended = str(error).split(" is in ")[0]
        files = sorted(str(path.relative_to(name)) for path in (workspace.scratch / "train").iterdir())
        return digest_of(model.state_dict()), metrics_of(workspace), files, ended


@pytest.mark.parametrize(
    ("beside", "change"),
    [
        ({}, {"learning_rate": 2e-2}),
        ({}, {"batch_tokens": 2 * 16}),
        ({}, {"attend_across_documents": True}),
        ({}, {"precision": "bfloat16"}),
        ({}, {"skipped_steps": (2,)}),
        ({}, {"optimizer.beta1": 0.5}),
        ({}, {"optimizer.beta2": 0.5}),
        ({}, {"optimizer.weight_decay": 0.5}),
        ({}, {"optimizer.grad_clip": 0.1}),
        ({}, {"schedule.kind": "constant"}),
        ({}, {"schedule.kind": "multi-step"}),
        ({}, {"schedule.warmup_steps": 3}),
        ({}, {"schedule.final_share": 0.5}),
        (MULTI, {"schedule.drops": ((0.5, 0.5),)}),
        ({}, {"lora.rank": 2}),
        (LORA, {"lora.rank": 3}),
        (LORA, {"lora.alpha": 8}),
        (LORA, {"lora.dropout": 0.5}),
        (LORA, {"lora.target_modules": ("q_proj",)}),
    ],
    ids=lambda fields: ",".join(fields),
)
def test_a_field_of_training_shows_in_the_run(beside: Fields, change: Fields) -> None:
    assert trained(tuple({**beside, **change}.items())) != trained(tuple(beside.items()))


def test_the_same_fields_make_the_same_record(inputs: tuple[Path, Path, Path]) -> None:
    """Otherwise a difference would prove nothing."""
    assert trained.__wrapped__(()) == trained(())
    first = learned({}, inputs)
    _records.clear()
    assert learned({}, inputs) == first


@pytest.mark.parametrize("change", [{"micro_batch_rows": 3}, {"gradient_checkpointing": True}], ids=lambda fields: ",".join(fields))
def test_a_field_that_says_how_leaves_steps_and_files_alone(change: Fields) -> None:
    (_, usual, files, _), (_, metrics, others, _) = trained(()), trained(tuple(change.items()))
    assert files == others
    for (step, before), (same, after) in zip(usual, metrics, strict=True):
        assert step == same
        assert dict(after) == pytest.approx(dict(before), rel=1e-4)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    save_problems(folder / "problems", 6)
    (folder / "problems" / "train.jsonl").rename(folder / "problems" / "test.jsonl")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 12)


LEARNING: dict[str, Any] = {
    "steps": 2,
    "prompts_per_step": 2,
    "group_size": 3,
    "num_updates": 2,
    "learning_rate": 1e-2,
    "precision": "float32",
    "rollout": {"max_tokens": 8},
    "collapse": {"steps": 2},
    "tis_cap": 1.0,
}
EVALUATED = {"evaluate_steps": 1, "evaluate_questions": 4}
UNLIKE_LENGTHS = {"rollout.max_tokens": 200, "prompts_per_step": 12, "steps": 1}
"""Completions are cut where the context ends, and questions differ in length."""
PPO = {"paradigm": METHODS["ppo"].model_dump(), "steps": 3}


_records: dict[str, Record] = {}


def learned(changes: Fields, inputs: tuple[Path, Path, Path]) -> Record:
    """The record of an iteration of reinforcement learning."""
    if str(changes) not in _records:
        with TemporaryDirectory() as name:
            workspace = Workspace.at(Path(name))
            try:
                ended: Any = sorted(grpo_iteration(GRPOConfig(**merged(LEARNING, changes)), *inputs, 1, workspace).items())
            except MathQuarryError as error:
                ended = str(error)
            checkpoints = sorted(path.name for path in (workspace.scratch / "grpo").glob("checkpoint-*"))
            weights = next((workspace.out / "model").glob("*model.safetensors"), None)
            policy = load_file(weights) if weights else {}
            _records[str(changes)] = (digest_of(policy), checkpoints, metrics_of(workspace), ended)
    return _records[str(changes)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beside", "change"),
    [
        ({}, {"steps": 1}),
        ({}, {"supervision": "outcome"}),
        ({}, {"prompts_per_step": 3}),
        ({}, {"group_size": 2}),
        ({}, {"num_updates": 1}),
        ({}, {"clip_low": 1e-3}),
        ({}, {"clip_high": 1e-3}),
        ({}, {"ratio": "sequence"}),
        ({}, {"surrogate": "cispo"}),
        (UNLIKE_LENGTHS, {"loss_normalisation": "tokens"}),
        (UNLIKE_LENGTHS, {"loss_normalisation": "constant"}),
        ({}, {"advantage_normalisation": "none"}),
        ({}, {"advantage_normalisation": "batch_std"}),
        ({}, {"min_spread": 0.5}),
        ({}, {"credit": "min"}),
        ({}, {"kl": "none"}),
        ({}, {"kl": "reward"}),
        ({}, {"tis_mask": "tokens", "tis_high": 1.0000001}),
        ({"tis_mask": "tokens"}, {"tis_high": 1.0000001}),
        ({"tis_mask": "tokens"}, {"tis_low": 0.9999999}),
        ({}, {"kl_coef": 0.5}),
        ({}, {"tis_cap": 0.5}),
        ({}, {"learning_rate": 1e-3}),
        ({}, {"optimizer.beta1": 0.5}),
        ({}, {"optimizer.beta2": 0.5}),
        ({}, {"optimizer.weight_decay": 0.5}),
        ({}, {"optimizer.grad_clip": 1e-3}),
        ({}, {"precision": "bfloat16", "probe_tolerance": 1.0}),
        ({}, {"rollout.temperature": 0.5}),
        ({}, {"rollout.max_tokens": 5}),
        ({"tis_cap": 2.0}, {"rollout.ahead": 1}),
        ({}, {"seed": 1}),
        ({}, {"paradigm.reward": "rule", "supervision": "outcome"}),
        ({}, {"evaluate_steps": 2}),
        ({}, {"lora.rank": 2}),
        (LORA, {"lora.alpha": 8}),
        (LORA, {"lora.target_modules": ["q_proj"]}),
        ({"paradigm.data": "offline"}, {"paradigm.data": "online"}),
        ({}, {"selection.extra_draws": 1}),
        ({}, {"selection.verdicts": "right"}),
        ({}, {"selection.overlong": "mask"}),
        ({}, {"selection.overlong": "penalise"}),
        ({"selection.overlong": "penalise"}, {"selection.overlong_buffer": 0.9}),
        ({"selection.overlong": "penalise"}, {"selection.overlong_penalty": 0.1}),
        ({}, {"collapse.largest_kl": 1e-9}),
        ({}, {"collapse.smallest_entropy": 50.0}),
        ({}, {"collapse.shortest_completion": 50.0}),
        ({"collapse.shortest_completion": 50.0}, {"collapse.steps": 1}),
        ({"collapse.shortest_completion": 50.0}, {"checkpoint_steps": 1}),
        (PPO, {"ppo.discount": 0.5}),
        (PPO, {"ppo.gae_lambda": 0.1}),
        (PPO, {"ppo.value_learning_rate": 1e-1}),
        (PPO, {"kl_coef": 0.5}),
        (PPO, {"kl": "none"}),
        (EVALUATED, {"evaluate_steps": 2}),
        (EVALUATED, {"keep": "best"}),
    ],
    ids=lambda fields: ",".join(fields),
)
def test_a_field_of_reinforcement_learning_shows_in_the_run(beside: Fields, change: Fields, inputs: tuple[Path, Path, Path]) -> None:
    assert learned({**beside, **change}, inputs) != learned(beside, inputs)


def test_how_strongly_dpo_prefers_is_the_configs() -> None:
    rollouts = scored([[5, 6]] * 2, [[20, 21], [30, 31]], [[1], [1]], [[1.0], [0.0]], 2)
    found = []
    for beta in (0.1, 0.4):
        config = GRPOConfig(precision="float32", paradigm=METHODS["dpo"], preference_beta=beta)
        found.append(coefficients(rollouts, config, tiny_policy(0), tiny_policy(1), None)[1]["preference_loss"])
    assert found[0] != found[1]
