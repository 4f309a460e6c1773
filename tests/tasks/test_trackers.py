"""The metrics of a running stage reach experiment trackers, and trackers change no artifact."""

from __future__ import annotations

import logging
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.store import Store
from mathquarry.data.store.workspace import MetricLog, Workspace
from mathquarry.flows.recipe import load_recipe
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.tasks import trackers
from mathquarry.tasks.stage import produce
from mathquarry.tasks.trackers import lacking, tracked

CONFIG = {"grpo": {"steps": 3, "rewards": [{"kind": "rule"}], "rollout": {"engine": "transformers"}}, "iteration": 1}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(util.find_spec(name) is None, reason=f"needs the package {trackers.PACKAGES[name]}")  # type: ignore[index]


def log(metrics: Path, steps: range) -> None:
    for step in steps:
        MetricLog(metrics).log(step, reward=0.125 * step, **{"held-out: 測 loss@1": 1.0 / step})


def follow(name: Any, tmp_path: Path) -> Path:
    """Three steps, handed to a tracker; its folder."""
    metrics = tmp_path / "metrics.jsonl"
    with tracked([name], "grpo-1a2b3c4d", CONFIG, metrics, tmp_path / "trackers"):
        log(metrics, range(1, 4))
    return tmp_path / "trackers" / name


@needs("tensorboard")
def test_tensorboard_has_every_step_and_the_config(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = follow("tensorboard", tmp_path).iterdir()
    assert run.name.startswith("grpo-1a2b3c4d-")
    events = EventAccumulator(str(run))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward")] == [(1, 0.125), (2, 0.25), (3, 0.375)]
    (written,) = run.rglob("hparams.yml")
    assert "grpo.rollout.engine: transformers" in written.read_text()


@pytest.mark.slow
@needs("mlflow")
def test_a_file_store_of_mlflow_has_every_step_and_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(follow("mlflow", tmp_path).as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'mathquarry'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("grpo-1a2b3c4d", "FINISHED")
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "reward")] == [
        (1, 0.125),
        (2, 0.25),
        (3, 0.375),
    ]
    assert run.data.metrics["held-out_ _ loss_1"] == pytest.approx(1 / 3)
    assert run.data.params["grpo.steps"] == "3"


@pytest.mark.slow
@needs("wandb")
def test_weights_and_biases_keeps_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    assert list(follow("wandb", tmp_path).rglob("*.wandb"))


@pytest.mark.slow
@needs("trackio")
def test_trackio_keeps_a_run_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    follow("trackio", tmp_path)
    assert [path.name for path in (tmp_path / "trackio").rglob("mathquarry*.db")] != []


def test_a_tracker_whose_package_is_not_here_is_said_before_the_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.util, "find_spec", lambda name: None)
    assert lacking(["mlflow"]) == ["trackers has mlflow, whose package is not installed: pip install mlflow-skinny"]
    config = GRPOConfig(trackers=["wandb", "mlflow"])
    with pytest.raises(MathQuarryError, match=r"pip install wandb\. .* pip install mlflow-skinny\. Or take it out of the recipe\."):
        produce(str(tmp_path), "grpo", 1, {"grpo": config}, {}, lambda workspace, inputs: pytest.fail("the work began"))
    assert not list(Store(tmp_path).published())


class Recorder:
    """A tracker that notes what it gets, or fails at a step."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.got, self.ended = fails_at, [], False

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int) -> None:
        if step == self.fails_at:
            raise ConnectionError("the service is away")
        self.got.append(step)

    def finish(self) -> None:
        self.ended = True


def test_a_tracker_that_fails_stops_neither_the_stage_nor_another_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = {"wandb": Recorder(fails_at=2), "tensorboard": Recorder()}
    monkeypatch.setattr(trackers, "_started", lambda name, run, folder: made[name])
    monkeypatch.setattr(trackers.util, "find_spec", lambda name: name)
    with (
        caplog.at_level(logging.WARNING, "mathquarry"),
        tracked(["wandb", "tensorboard"], "run", CONFIG, tmp_path / "metrics.jsonl", tmp_path),
    ):
        log(tmp_path / "metrics.jsonl", range(1, 4))
    assert (made["wandb"].got, made["wandb"].ended) == ([1], False)
    assert (made["tensorboard"].got, made["tensorboard"].ended) == ([1, 2, 3], True)
    assert caplog.messages == ["tracker wandb: ConnectionError: the service is away. The stage goes on without it."]


def test_steps_of_an_earlier_attempt_that_are_dropped_are_never_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(trackers, "_started", lambda name, run, folder: recorder)
    monkeypatch.setattr(trackers.util, "find_spec", lambda name: name)
    metrics = tmp_path / "metrics.jsonl"
    log(metrics, range(1, 6))
    with monkeypatch.context() as later:
        later.setattr(trackers.time, "time", lambda: 4e9)
        follower = trackers._Follower("wandb", "run", CONFIG, trackers.MetricTail(metrics), tmp_path)
    follower.look(False)
    assert recorder.got == []
    MetricLog(metrics).rewind(3)
    follower._begun = 0.0
    log(metrics, range(4, 7))
    follower.look(True)
    assert recorder.got == [1, 2, 3, 4, 5, 6]


def test_trackers_are_no_part_of_a_key_and_come_from_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("tiny", ['trackers=["tensorboard"]', 'sft.trackers=["mlflow", "wandb"]'])
    assert recipe.grpo.trackers == recipe.pretrain.trackers == recipe.reward.trackers == ["tensorboard"]
    assert recipe.sft.trackers == ["mlflow", "wandb"]
    plain = load_recipe("tiny")
    assert plain.grpo.trackers == []
    for section in ("pretrain", "sft", "reward", "grpo"):
        assert getattr(recipe, section).identity() == getattr(plain, section).identity()
    with pytest.raises(MathQuarryError, match=r"(?s)trackers.*tensorboard.*\(got 'comet'\)"):
        load_recipe("tiny", ['trackers=["comet"]'])


@needs("tensorboard")
def test_a_stage_is_tracked_in_its_store(tmp_path: Path) -> None:
    def work(workspace: Workspace, inputs: dict[str, Path]) -> dict[str, int]:
        workspace.metrics.log(1, reward=0.5)
        return {"steps": 1}

    made = produce(str(tmp_path), "grpo", 1, {"grpo": GRPOConfig(trackers=["tensorboard"])}, {}, work)
    (run,) = (tmp_path / "trackers" / "tensorboard").iterdir()
    assert run.name.startswith(f"grpo-{made.key[:8]}-")
    assert produce(str(tmp_path), "grpo", 1, {"grpo": GRPOConfig()}, {}, work).key == made.key
