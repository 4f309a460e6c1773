"""How the values of several terms become one reward, and what the list does not change."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.flows.experiments.compare import compare
from mathquarry.flows.recipe import load_recipe
from mathquarry.models.rl.config import METHODS, GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rl.method import check_method
from mathquarry.models.rl.reward_terms import RewardTerms
from mathquarry.models.rollout.config import RolloutConfig
from mathquarry.tasks.grpo import grpo
from tests.models.rl.rewards.cases import FOUR, TOKENIZER, completions
from tests.models.rl.tiny import save_policy, save_problems, save_reward

RULE, MODEL = {"kind": "rule"}, {"kind": "model"}
PENALTY = {"kind": "function", "function": "docs.examples.my_rewards:length_penalty", "arguments": {"longest": 8}}
SUMS = {"kind": "function", "function": "docs.examples.my_rewards:right_sums"}
STEP_SCORES = [[0.5, 0.25], [0.5, 0.0], [1.0], [0.0, 0.25, 0.5]]


def config_of(*rewards: dict, supervision: str = "outcome", **fields: object) -> GRPOConfig:
    return GRPOConfig.model_validate({"supervision": supervision, "rewards": list(rewards), **fields})


def rewards_of(config: GRPOConfig, scores: list[list[float]] | None = None) -> list[list[float]]:
    return RewardTerms(config, TOKENIZER).rewards(completions(*FOUR), scores or [])[0]


def test_a_reward_is_the_weighted_sum() -> None:
    lengths = [len(completion) for completion in completions(*FOUR).completion_ids]
    penalties = [-min(1.0, max(0, length - 8) / 8) for length in lengths]
    assert len(set(penalties)) > 1
    config = config_of({**RULE, "weight": 2.0}, {**PENALTY, "weight": 0.5}, {**MODEL, "weight": -1.0})
    expected = [2.0 * right + 0.5 * penalty - 0.25 for right, penalty in zip([1, 0, 1, 0], penalties, strict=True)]
    assert [row[0] for row in rewards_of(config, [[0.25]] * 4)] == pytest.approx(expected)


def test_what_is_earned_by_the_whole_is_added_to_the_last_step() -> None:
    config = config_of({**SUMS, "weight": 0.5}, RULE, MODEL, supervision="process")
    sums = [[1.0, 0.0], [-1.0, 0.0], [0.0], [-1.0, 0.0, 0.0]]
    right = [1.0, 0.0, 1.0, 0.0]
    expected = [
        [0.5 * value + score for value, score in zip(values, scores, strict=True)] for values, scores in zip(sums, STEP_SCORES, strict=True)
    ]
    for row, verdict in zip(expected, right, strict=True):
        row[-1] += verdict
    assert rewards_of(config, STEP_SCORES) == expected


def test_every_value_is_recorded_also_with_weight_0() -> None:
    config = config_of({**RULE, "weight": 0.0, "name": "right"}, SUMS, supervision="process")
    rewards, parts = RewardTerms(config, TOKENIZER).rewards(completions(*FOUR), [])
    assert rewards[0] == [1.0, 0.0]
    assert parts[0] == {"right": [1.0], "right_sums": [1.0, 0.0]}


def test_process_supervision_without_a_reward_for_steps_is_refused() -> None:
    with pytest.raises(MathQuarryError, match="none of grpo.rewards has one value per step"):
        rewards_of(config_of(RULE, PENALTY, supervision="process"))
    with pytest.raises(MathQuarryError, match="a rule gives one reward per completion"):
        check_method(config_of(RULE, supervision="process"))


def test_the_default_is_the_reward_that_the_paradigm_names_and_nothing_is_recorded_beside() -> None:
    scores = [[1 / 3], [0.1], [0.7], [1.0]]
    assert RewardTerms(GRPOConfig(supervision="outcome"), TOKENIZER).rewards(completions(*FOUR), scores) == (scores, [])
    assert RewardTerms(GRPOConfig(), TOKENIZER).rewards(completions(*FOUR), STEP_SCORES) == (STEP_SCORES, [])
    rule = GRPOConfig(supervision="outcome", paradigm=METHODS["grpo"].model_copy(update={"reward": "rule"}))
    assert RewardTerms(rule, TOKENIZER).rewards(completions(*FOUR), []) == ([[1.0], [0.0], [1.0], [0.0]], [])


def test_a_reward_model_is_wanted_where_the_list_has_one_or_ppo_starts_from_it() -> None:
    assert GRPOConfig().uses_reward_model
    assert config_of(RULE, MODEL).uses_reward_model
    assert not config_of(RULE, PENALTY).uses_reward_model
    assert config_of(RULE, paradigm=METHODS["ppo"].model_dump()).uses_reward_model
    assert not config_of(RULE, paradigm=METHODS["ppo"].model_dump()).scored_by_model


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([RULE, RULE], "two rewards are called `rule`"),
        ([{**RULE, "name": "model"}, MODEL], "two rewards are called `model`"),
        ([{"kind": "oracle"}], "kind"),
        ([{"weight": 1.0}], "kind"),
        ([{**RULE, "function": "a:b"}], "function"),
        ([{**RULE, "weight": float("nan")}], "weight"),
        ([{**RULE, "weight": 1e7}], "weight"),
        ([{**RULE, "name": "a b"}], "name"),
        ([{**RULE, "name": "../a"}], "name"),
        (["rule"], "rewards"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(rewards: list, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GRPOConfig(rewards=rewards)


def test_methods_that_cannot_use_the_list_say_so() -> None:
    with pytest.raises(MathQuarryError, match="paradigm.reward is `none`, but grpo.rewards has entries"):
        check_method(config_of(RULE, paradigm=METHODS["sft"].model_dump()))
    with pytest.raises(MathQuarryError, match="needs reward `rule` and num_updates = 1"):
        check_method(config_of(RULE, PENALTY, paradigm=METHODS["dpo"].model_dump()))
    check_method(config_of(RULE, paradigm=METHODS["dpo"].model_dump()))
    check_method(config_of(RULE, PENALTY, paradigm=METHODS["online-rft"].model_dump()))


def test_a_comparison_of_methods_takes_no_list(tmp_path: Path) -> None:
    recipe = load_recipe("tiny", ['grpo.rewards=[{kind = "rule"}]'])
    with pytest.raises(MathQuarryError, match="grpo.rewards has entries, but a comparison"):
        compare.fn(recipe, "methods", str(tmp_path), lambda *_: None)


def test_another_source_of_the_function_is_another_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the artifact that the stage would make, read from the message that it is missing."""
    from mathquarry.data.errors import NotMade
    from mathquarry.data.store.store import Store

    monkeypatch.chdir(tmp_path)
    store = Store(str(tmp_path / "store"))
    from mathquarry.data.store.artifacts import Identity

    made = {
        stage: store.build(Identity(stage=stage, version=1, config={}, inputs={}, sources=()), lambda workspace: {}).key
        for stage in ("sft", "problems")
    }
    inputs = (f"sft/{made['sft']}", None, f"problems/{made['problems']}", 1)

    def key(weight: float = 1.0) -> str:
        config = config_of({"kind": "function", "function": "known_by_source:f", "weight": weight})
        with pytest.raises(NotMade) as missing:
            grpo.fn(str(tmp_path / "store"), config, *inputs, mode="require")
        return missing.value.key

    (tmp_path / "known_by_source.py").write_text("def f(completions): return [0] * len(completions)\n")
    first = key()
    assert key() == first
    assert key(2.0) != first
    (tmp_path / "known_by_source.py").write_text("def f(completions): return [1] * len(completions)\n")
    assert key() != first


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 12)


@pytest.mark.slow
@pytest.mark.parametrize(("reward", "supervision"), [("model", "process"), ("model", "outcome"), ("rule", "outcome")])
def test_a_list_of_the_one_reward_learns_the_same_bytes_as_without_a_list(
    reward: str, supervision: str, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    common = {
        "steps": 2,
        "prompts_per_step": 2,
        "group_size": 3,
        "learning_rate": 1e-2,
        "precision": "float32",
        "rollout": RolloutConfig(max_tokens=8),
        "supervision": supervision,
    }
    named, listed = Workspace.at(tmp_path / "named"), Workspace.at(tmp_path / "listed")
    grpo_iteration(GRPOConfig.model_validate({**common, "paradigm": {"reward": reward}}), *inputs, 1, named)
    grpo_iteration(GRPOConfig.model_validate({**common, "rewards": [{"kind": reward}]}), *inputs, 1, listed)
    assert (named.out / "model/model.safetensors").read_bytes() == (listed.out / "model/model.safetensors").read_bytes()
    ours, theirs = (pq.read_table(workspace.out / "rollouts.parquet") for workspace in (named, listed))
    assert ours == theirs.drop_columns(["rewards"])
    assert [dict(row)[reward] for row in theirs["rewards"].to_pylist()] == ours["step_rewards"].to_pylist()
