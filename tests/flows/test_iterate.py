"""Algorithm 1 from any state: the inputs of each stage, in the pipeline and in the schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.cli.plan import plan_lines
from mathquarry.flows.experiments.compare import side_by_side
from mathquarry.flows.iterate import iterate
from mathquarry.flows.pipeline import run_pipeline
from mathquarry.flows.recipe import Recipe, load_recipe
from mathquarry.flows.recorded_run import Run
from mathquarry.flows.served.flows import next_iteration
from mathquarry.flows.stages.made import Made
from mathquarry.flows.stages.registry import stage_of
from mathquarry.tasks.stage import StageResult


@dataclass
class Chain(Run):
    """A run that records the inputs of each stage, and whose artifacts are named like their stages."""

    given: dict[str, list[Any]] = field(default_factory=dict)

    def stage(self, name: str, stage_flow: Flow[..., StageResult], *arguments: Any) -> str:
        assert name not in self.given, f"{name} is made twice"
        self.given[name] = list(arguments)
        self.produced[name] = StageResult(f"{stage_of(stage_flow.name)}/{name}", False, 0.0, {})
        return self.produced[name].ref

    def made(self, *stages: str) -> dict[str, list[Any]]:
        return {name: arguments for name, arguments in self.given.items() if name.partition("-")[0] in stages}


def chain(tmp_path: Path, recipe: Recipe) -> Chain:
    return Chain(str(tmp_path), recipe, None, frozenset(), lambda *_: None)


def recipe_of(reward: str, refreshed: bool, iterations: int, *overrides: str) -> Recipe:
    fields = [f"grpo.paradigm.reward={reward}", f"refresh.enabled={str(refreshed).lower()}", f"iterations={iterations}"]
    return load_recipe("tiny", [*fields, *overrides])


@pytest.mark.parametrize("reward", ["model", "rule"])
@pytest.mark.parametrize("refreshed", [True, False])
@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_scheduled_iteration_is_the_pipelines_next_one(tmp_path: Path, reward: str, refreshed: bool, done: int) -> None:
    """The stages that a schedule adds to a run of `done` iterations are those of the pipeline's next iteration."""
    whole = chain(tmp_path, recipe_of(reward, refreshed, done + 1))
    run_pipeline(whole, whole.recipe)
    grown = chain(tmp_path, recipe_of(reward, refreshed, done))
    run_pipeline(grown, grown.recipe)
    before = set(grown.given)
    del grown.given["report"], grown.produced["report"]
    next_iteration(grown, grown.recipe)
    assert {name: given for name, given in grown.given.items() if name != "report"} == {
        name: given for name, given in whole.given.items() if name != "report"
    }
    expected = {f"grpo-{done + 1}", f"evaluate-rl-{done + 1}"} | ({f"reward-{done}"} if refreshed and reward == "model" else set())
    assert set(grown.given) - before == expected
    # The report is about the whole line of iterations.
    assert set(grown.given["report"][1]) == set(grown.given) - {"report"}


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_the_reward_model_is_refreshed_before_every_iteration_but_the_first(tmp_path: Path, iterations: int) -> None:
    run = chain(tmp_path, recipe_of("model", True, iterations))
    run_pipeline(run, run.recipe)
    order = [name for name in run.given if name.partition("-")[0] in ("reward", "grpo")]
    assert order == ["reward-0", "grpo-1", "reward-1", "grpo-2", "reward-2", "grpo-3"][: 2 * iterations]
    for iteration in range(2, iterations + 1):
        *_, policy, problems, history, number = run.given[f"reward-{iteration - 1}"]
        assert (policy, problems, number) == (f"grpo/grpo-{iteration - 1}", "problems/problems", iteration - 1)
        assert history == [f"reward/reward-{index}" for index in range(iteration - 1)]
        assert run.given[f"grpo-{iteration}"][1:5] == [policy, f"reward/reward-{iteration - 1}", problems, iteration]


def test_without_a_refresh_the_first_reward_model_scores_every_iteration(tmp_path: Path) -> None:
    run = chain(tmp_path, recipe_of("model", False, 3))
    run_pipeline(run, run.recipe)
    assert list(run.made("reward")) == ["reward-0"]
    assert {arguments[2] for arguments in run.made("grpo").values()} == {"reward/reward-0"}


@pytest.mark.parametrize("reward", ["rule", "none"])
@pytest.mark.parametrize("refreshed", [True, False])
def test_no_reward_model_is_trained_where_no_method_uses_one(tmp_path: Path, reward: str, refreshed: bool) -> None:
    run = chain(tmp_path, recipe_of(reward, refreshed, 3))
    run_pipeline(run, run.recipe)
    assert run.made("reward") == {}
    assert [arguments[2] for arguments in run.made("grpo").values()] == [None, None, None]
    assert not [line for line in plan_lines(run.recipe, "h100") if line.startswith("reward")]


def test_a_value_model_starts_from_a_reward_model_whoever_judges(tmp_path: Path) -> None:
    run = chain(tmp_path, recipe_of("rule", True, 2, "grpo.paradigm.advantage=gae"))
    run_pipeline(run, run.recipe)
    assert list(run.made("reward")) == ["reward-0", "reward-1"]
    assert run.given["grpo-2"][2] == "reward/reward-1"


STATE = {"problems": "problems/p", "pretrain": "pretrain/b", "curate": "curate/c", "sft": "sft/s"}


@pytest.mark.parametrize(
    ("made", "expected", "history"),
    [
        ({}, ["reward-0", "grpo-1"], None),
        # Switched from the answer checker to a reward model: the first one is trained now, and refreshed on the newest policy.
        ({"grpo-1": "grpo/1"}, ["reward-0", "reward-1", "grpo-2"], ["reward/reward-0"]),
        ({"grpo-1": "grpo/1", "grpo-2": "grpo/2"}, ["reward-0", "reward-2", "grpo-3"], ["reward/reward-0"]),
        # Refreshing was off until now: the history has a gap, the number has none.
        ({"reward-0": "reward/0", "grpo-1": "grpo/1", "grpo-2": "grpo/2"}, ["reward-2", "grpo-3"], ["reward/0"]),
        # It was off in between.
        (
            {"reward-0": "reward/0", "grpo-1": "grpo/1", "reward-1": "reward/1", "grpo-2": "grpo/2", "grpo-3": "grpo/3"},
            ["reward-3", "grpo-4"],
            ["reward/0", "reward/1"],
        ),
        # More than nine iterations.
        (
            {"reward-0": "reward/0", **{f"grpo-{number}": f"grpo/{number}" for number in range(1, 11)}},
            ["reward-10", "grpo-11"],
            ["reward/0"],
        ),
    ],
)
def test_an_iteration_follows_from_any_state(tmp_path: Path, made: dict[str, str], expected: list[str], history: list[str] | None) -> None:
    run = chain(tmp_path, recipe_of("model", True, 1))
    done = sum(name.startswith("grpo-") for name in made)
    iterate(run, run.recipe, Made(run, run.recipe, {**STATE, **made}), done + 1)
    assert list(run.made("reward", "grpo")) == expected
    if history is not None:
        assert run.given[expected[-2]][2:] == [f"grpo/{done}", "problems/p", history, done]
    assert run.given[f"grpo-{done + 1}"][1] == (f"grpo/{done}" if done else "sft/s")


@pytest.mark.parametrize(("start", "weights"), [("base", "pretrain/b"), ("sft", "sft/s")])
def test_the_first_reward_model_has_the_weights_that_the_recipe_says_and_judges_the_fine_tuned_policy(
    tmp_path: Path, start: str, weights: str
) -> None:
    run = chain(tmp_path, recipe_of("model", True, 1, f"reward.initialise_from={start}"))
    iterate(run, run.recipe, Made(run, run.recipe, STATE), 1)
    assert run.given["reward-0"][1:] == [weights, "sft/s", "problems/p"]


def test_iterations_that_are_there_already_are_left_alone(tmp_path: Path) -> None:
    run = chain(tmp_path, recipe_of("model", True, 2))
    iterate(run, run.recipe, Made(run, run.recipe, {**STATE, "reward-0": "reward/0", "grpo-1": "grpo/1", "grpo-2": "grpo/2"}), 2)
    assert run.given == {}


def test_a_method_on_worked_solutions_gets_them(tmp_path: Path) -> None:
    for data, examples in (("examples", "curate/c"), ("online", None)):
        run = chain(tmp_path, recipe_of("none", True, 1, f"grpo.paradigm.data={data}", "grpo.paradigm.advantage=constant"))
        iterate(run, run.recipe, Made(run, run.recipe, STATE), 1)
        assert run.given["grpo-1"][5] == examples


def test_a_comparison_of_reward_models_that_nobody_asks_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = chain(tmp_path, recipe_of("rule", True, 2))
    with pytest.raises(MathQuarryError, match=r"grpo\.paradigm\.reward"):
        side_by_side(run, run.recipe, "rewards")
    assert run.given == {}
