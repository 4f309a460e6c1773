"""Sampling one step ahead: which policy samples what, what an update corrects for, and that a killed run goes on with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

import mathquarry.models.rl.grpo as grpo
import mathquarry.models.rl.loop as loop_module
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.grade.checker import Checker
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_policy, load_tokenizer, read_prompt_style
from mathquarry.models.policy.prompts import Prompter
from mathquarry.models.policy.questions import read_questions
from mathquarry.models.ranks.config import RanksConfig
from mathquarry.models.rl.ahead import AheadSampler
from mathquarry.models.rl.config import METHODS, GRPOConfig, SelectionConfig
from mathquarry.models.rl.loop import Loop
from mathquarry.models.rl.method import check_method
from mathquarry.models.rl.rollout_table import write_rollouts
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.models.rollout.hf import TransformersEngine
from tests.models.rl.test_loop import CONFIG as LOOP
from tests.models.rl.test_loop import loop_of
from tests.models.rl.tiny import save_policy, save_problems, save_reward

CONFIG = GRPOConfig(
    steps=5,
    prompts_per_step=3,
    group_size=4,
    learning_rate=1e-2,
    micro_batch_tokens=256,
    precision="float32",
    rollout=RolloutConfig(max_tokens=12, ahead=1),
    tis_cap=2.0,
    probe_tolerance=1e-4,
    checkpoint_steps=2,
)
FILES = ["model/model.safetensors", "rollouts.parquet"]
Inputs = tuple[Path, Path, Path]


def changed(config: GRPOConfig, **changes: Any) -> GRPOConfig:
    return config.model_copy(update=changes)


def not_ahead(config: GRPOConfig) -> GRPOConfig:
    return changed(config, rollout=config.rollout.model_copy(update={"ahead": 0}))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 20)


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict]:
    workspace = Workspace.at(tmp_path_factory.mktemp("whole"))
    return workspace, grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)


def rows_of(workspace: Workspace) -> list[dict[str, Any]]:
    return pq.read_table(workspace.out / "rollouts.parquet").to_pylist()


def test_the_run_is_the_schedule_made_by_hand(inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path) -> None:
    """Every step's completions from a copy of the policy two steps back, one after another, without a thread: the same rows and weights."""
    policy, reward, problems = inputs
    tokenizer = load_tokenizer(policy)
    questions, _ = read_questions(problems / "train.jsonl", Prompter(tokenizer, read_prompt_style(policy, tokenizer)), 128)
    config = not_ahead(CONFIG)
    models = Models.load(config, policy, reward)
    after = [{name: weights.clone() for name, weights in models.policy.model.state_dict().items()}]
    engine = TransformersEngine(config.rollout, load_policy(policy))
    parts = []
    with Checker(config.grade) as checker:
        loop = Loop(config, 1, tokenizer, questions, None, [], models, engine, checker, tmp_path)
        for step in range(1, config.steps + 1):
            sampled_by = max(0, step - 2)
            engine.model.load_state_dict(after[sampled_by])
            rollouts = loop.score(loop.sampler.sample(step))
            for one in rollouts.rows:
                one.version = f"iteration 1, step {sampled_by}"
            loop.advantages(rollouts)
            loop.update(rollouts)
            after.append({name: weights.clone() for name, weights in models.policy.model.state_dict().items()})
            parts.append(tmp_path / f"{step}.parquet")
            write_rollouts(parts[-1], rollouts, 1, step)
    assert [row for part in parts for row in pq.read_table(part).to_pylist()] == rows_of(whole[0])
    learned = load_policy(whole[0].out / "model").state_dict()
    assert all(torch.equal(learned[name], weights) for name, weights in after[-1].items())


def test_every_completion_names_the_weights_that_sampled_it(whole: tuple[Workspace, dict]) -> None:
    assert [(row["step"], row["version"]) for row in rows_of(whole[0])[::12]] == [
        (step, f"iteration 1, step {max(0, step - 2)}") for step in range(1, 6)
    ]
    assert all(len({row["version"] for row in rows_of(whole[0])[start : start + 12]}) == 1 for start in range(0, 60, 12))


def test_without_it_there_is_no_such_column_and_nothing_is_kept_for_a_checkpoint(inputs: Inputs, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    grpo.grpo_iteration(changed(not_ahead(CONFIG), steps=2), *inputs, 1, workspace)
    assert "version" not in pq.read_schema(workspace.out / "rollouts.parquet").names
    assert not (workspace.scratch / "ahead").exists()
    assert "seconds_wait" not in workspace.metrics.read()[0]["values"]


def test_the_first_step_is_on_policy_and_the_others_are_not(whole: tuple[Workspace, dict]) -> None:
    records = [record["values"] for record in whole[0].metrics.read()]
    assert records[0]["mismatch_largest"] < 1e-4 < 1e-2 < min(values["mismatch_largest"] for values in records[1:])
    assert all(values["weights_compared"] > 0 and values["probe_mean"] < 1e-4 for values in records)
    assert all(values["seconds_wait"] >= 0 for values in records)


def test_the_update_weighs_tokens_by_what_the_engine_had_for_them(inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path) -> None:
    """With a cap so low that it binds everywhere, steps two and on learn something else; the first rollouts are the same."""
    workspace = Workspace.at(tmp_path)
    grpo.grpo_iteration(changed(CONFIG, steps=3, tis_cap=0.5), *inputs, 1, workspace)
    ours, theirs = rows_of(workspace), rows_of(whole[0])
    assert [row["completion"] for row in ours[:24]] == [row["completion"] for row in theirs[:24]]
    losses = [[record["values"]["loss"] for record in one.metrics.read()][:3] for one in (workspace, whole[0])]
    assert losses[0][1] != losses[1][1]


def test_the_next_step_is_sampled_while_the_policy_is_updated(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update of step 1 ends only when the sampling of step 2 has begun, and that ends only when the update has."""
    sampling, updated = threading.Event(), threading.Event()
    update = loop_module.update_policy

    def update_once_sampling_began(*arguments: Any) -> Any:
        assert sampling.wait(120), "nothing is sampled during the update"
        found = update(*arguments)
        updated.set()
        return found

    config = changed(LOOP, rollout=RolloutConfig(max_tokens=8, ahead=1), tis_cap=2.0, steps=2)
    with loop_of(config, inputs, tmp_path) as loop:
        loop.begin(0)
        sample = loop.sampler.sample

        def sample_until_updated(step: int) -> Any:
            if step == 2:
                sampling.set()
                assert updated.wait(120), "the update waits for the sampling"
            return sample(step)

        monkeypatch.setattr(loop.sampler, "sample", sample_until_updated)
        monkeypatch.setattr(loop_module, "update_policy", update_once_sampling_began)
        loop.step(1)
        loop.close()


def test_an_error_while_sampling_ahead_stops_the_run(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mathquarry.models.rl.sampling import Sampler

    sample = Sampler.sample

    def fails(self: Sampler, step: int) -> Any:
        if step == 3:
            raise MathQuarryError("the engine is gone")
        return sample(self, step)

    monkeypatch.setattr(Sampler, "sample", fails)
    workspace = Workspace.at(tmp_path)
    with pytest.raises(MathQuarryError, match="the engine is gone"):
        grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sample ahead")]


@pytest.mark.parametrize("killed_in", [2, 3, 5])
def test_a_killed_and_resumed_iteration_ends_with_the_same_bytes(
    killed_in: int, inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.at(tmp_path)
    update, calls = loop_module.update_policy, []

    def dies(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == killed_in:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(loop_module, "update_policy", dies)
    with pytest.raises(KeyboardInterrupt):
        grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    monkeypatch.setattr(loop_module, "update_policy", update)
    assert grpo.grpo_iteration(CONFIG, *inputs, 1, workspace) == whole[1]
    for name in FILES:
        assert (workspace.out / name).read_bytes() == (whole[0].out / name).read_bytes()


def dies_after_a_save(inputs: Inputs, folder: Path, steps: int) -> None:
    """Run an iteration that is killed when the completions sampled ahead of so many steps are written and their checkpoint is not."""
    save = AheadSampler.save

    def dies(self: AheadSampler, step: int, newest: int | None) -> None:
        save(self, step, newest)
        if step == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    AheadSampler.save = dies  # type: ignore[method-assign]
    grpo.grpo_iteration(CONFIG, *inputs, 1, Workspace.at(folder))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 4])
def test_a_run_killed_between_the_completions_and_their_checkpoint_goes_on_from_the_checkpoint_before(
    steps: int, inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=dies_after_a_save, args=(inputs, tmp_path, steps))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    workspace = Workspace.at(tmp_path)
    assert (workspace.scratch / "ahead" / f"after-{steps:06d}.json").exists()
    assert grpo.grpo_iteration(CONFIG, *inputs, 1, workspace) == whole[1]
    for name in FILES:
        assert (workspace.out / name).read_bytes() == (whole[0].out / name).read_bytes()


def test_completions_that_cannot_be_read_are_named(inputs: Inputs, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    grpo.grpo_iteration(changed(CONFIG, steps=3, checkpoint_steps=2), *inputs, 1, workspace)
    file = workspace.scratch / "ahead" / "after-000002.json"
    file.write_bytes(file.read_bytes()[:100])
    with loop_of(changed(CONFIG, supervision="outcome"), inputs, workspace.scratch) as loop:
        assert loop.ahead is not None
        with pytest.raises(MathQuarryError, match=r"cannot read .*after-000002\.json: .* Delete the folder"):
            loop.ahead.restore(2)
        loop.close()


def test_dynamic_sampling_grades_ahead_and_is_resumed_too(inputs: Inputs, tmp_path: Path) -> None:
    config = changed(CONFIG, selection=SelectionConfig(extra_draws=2), steps=3)
    one, two = Workspace.at(tmp_path / "one"), Workspace.at(tmp_path / "two")
    grpo.grpo_iteration(config, *inputs, 1, one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "join_rollouts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.grpo_iteration(config, *inputs, 1, two)
    grpo.grpo_iteration(config, *inputs, 1, two)
    assert (one.out / FILES[1]).read_bytes() == (two.out / FILES[1]).read_bytes()
    assert all(record["values"]["extra_groups"] > 0 for record in one.metrics.read())


@pytest.mark.slow
def test_in_bfloat16_and_with_adapters_and_ppo_it_runs_and_agrees_after_each_sync(inputs: Inputs, tmp_path: Path) -> None:
    variants = {
        "bfloat16": {"precision": "bfloat16", "probe_tolerance": 0.1},
        "adapters": {"lora": CONFIG.lora.model_copy(update={"rank": 4, "alpha": 8})},
        "ppo": {"paradigm": METHODS["ppo"]},
    }
    for name, changes in variants.items():
        workspace = Workspace.at(tmp_path / name)
        grpo.grpo_iteration(changed(CONFIG, steps=3, **changes), *inputs, 1, workspace)
        records = [record["values"] for record in workspace.metrics.read()]
        assert all(values["weights_compared"] > 0 for values in records), name
        assert records[2]["mismatch_largest"] > records[0]["mismatch_largest"], name


@pytest.mark.slow
@pytest.mark.parametrize("ranks_after", [2, 1])
def test_two_ranks_are_one_and_a_run_on_two_goes_on_on_either_number(
    ranks_after: int, inputs: Inputs, whole: tuple[Workspace, dict], tmp_path: Path
) -> None:
    two = RanksConfig(processes=2)
    workspace = Workspace.at(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "launch", dying_launch)
        with pytest.raises(MathQuarryError):
            grpo.grpo_iteration(changed(CONFIG, ranks=two, background_checkpoints=False), *inputs, 1, workspace)
    assert (workspace.scratch / "grpo" / "checkpoint-2").exists()
    grpo.grpo_iteration(changed(CONFIG, ranks=RanksConfig(processes=ranks_after)), *inputs, 1, workspace)
    assert [row["completion"] for row in rows_of(workspace)] == [row["completion"] for row in rows_of(whole[0])]
    assert [row["version"] for row in rows_of(workspace)] == [row["version"] for row in rows_of(whole[0])]
    ours, theirs = (load_policy(one.out / "model").state_dict() for one in (workspace, whole[0]))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=1e-4, atol=1e-4)


def dying_launch(work: Any, arguments: tuple[Any, ...], ranks: Any, workspace: Workspace, name: str) -> Any:
    from mathquarry.models.ranks.launch import launch
    from tests.models.rl.rank_work import iterate_until_step_four

    return launch(iterate_until_step_four, arguments, ranks, workspace, name)


REFUSED = [
    ({"tis_cap": None}, "grpo.tis_cap is not set"),
    ({"paradigm": METHODS["rft"]}, "data is `offline`"),
    ({"paradigm": METHODS["sft"]}, "data is `examples`"),
    ({"paradigm": METHODS["online-rft"]}, "advantage `reward` has none"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_cannot_be_corrected_is_refused(changes: dict[str, Any], said: str) -> None:
    config = changed(CONFIG, supervision="outcome", **changes)
    with pytest.raises(MathQuarryError, match=said):
        check_method(config)
    check_method(not_ahead(config))


def test_an_engine_that_sleeps_meanwhile_is_refused() -> None:
    with pytest.raises(ValidationError, match="ahead is 1, .* and sleep is true"):
        RolloutConfig(ahead=1, sleep=True)
    with pytest.raises(ValidationError, match="ahead"):
        RolloutConfig.model_validate({"ahead": 2})
