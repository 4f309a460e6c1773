"""The policy that an iteration returns: the last one, or the best one on held-out questions, with and without kills."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

import mathquarry.models.rl.grpo as grpo
import mathquarry.models.rl.keep as keep
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.rl.config import CollapseConfig, GRPOConfig
from mathquarry.models.rl.keep import Best, scores_until
from mathquarry.models.rl.loop import Loop
from mathquarry.models.rl.weights import Models
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.tiny import save_policy, save_problems, save_reward

CONFIG = GRPOConfig(
    steps=5,
    prompts_per_step=2,
    group_size=2,
    learning_rate=1e-2,
    precision="float32",
    supervision="outcome",
    rollout=RolloutConfig(max_tokens=6),
    checkpoint_steps=2,
    evaluate_steps=1,
    evaluate_questions=3,
    background_checkpoints=False,
    keep="best",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    save_problems(folder / "problems", 6)
    (folder / "problems" / "train.jsonl").rename(folder / "problems" / "test.jsonl")
    return save_policy(folder / "policy"), save_reward(folder / "reward"), save_problems(folder / "problems", 12)


def scored(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[dict]:
    """Let held-out accuracies be `scores`, from step 0 on; returns the weights that each was of, in time."""
    seen: list[dict] = []

    def accuracy(self: Loop) -> float:
        seen.append({name: weights.clone() for name, weights in self.models.policy.model.state_dict().items()})
        return scores[len(seen) - 1]

    monkeypatch.setattr(Loop, "test_accuracy", accuracy)
    return seen


def same(weights: dict, folder: Path) -> bool:
    kept = load_file(folder / "model.safetensors")
    return all(bool((kept[name] == value).all()) for name, value in weights.items())


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.1, 0.3, 0.5, 0.4, 0.5, 0.2], 2),  # of equal ones the earliest
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 5),
        ([0.6, 0.2, 0.3, 0.4, 0.5, 0.6], 0),  # the policy as it came in
    ],
)
def test_the_best_policy_is_kept_and_recorded(
    scores: list[float], kept: int, inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scored(monkeypatch, scores)
    workspace = Workspace.at(tmp_path)
    summary = grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    assert (summary["kept_step"], summary["kept_test_accuracy"], summary["last_test_accuracy"]) == (kept, scores[kept], scores[-1])
    assert same(seen[kept], workspace.out / "model")
    assert not any(same(other, workspace.out / "model") for step, other in enumerate(seen) if step != kept)
    assert {path.name for path in (workspace.out / "model").iterdir()} >= {"config.json", "tokenizer.json"}


def test_the_last_policy_is_kept_by_default(inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scored(monkeypatch, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    workspace = Workspace.at(tmp_path)
    summary = grpo.grpo_iteration(CONFIG.model_copy(update={"keep": "last"}), *inputs, 1, workspace)
    assert same(seen[5], workspace.out / "model")
    assert not {"kept_step", "stopped"} & summary.keys()
    assert not (workspace.scratch / "best").exists()


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ([0.1, 0.3, 0.2, 0.9], [0.2, 0.2, 0.2], 1),  # step 3's score was after the checkpoint of step 2: it is gone, and step 1 is there
        ([0.1, 0.3, 0.2, 0.9], [0.9, 0.2, 0.2], 3),
        ([0.5, 0.3, 0.2, 0.9], [0.4, 0.2, 0.2], 0),
    ],
)
def test_a_killed_run_goes_on_with_the_best_of_the_steps_that_it_still_has(
    before: list[float], after: list[float], kept: int, inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.at(tmp_path)
    seen = scored(monkeypatch, before)
    with pytest.raises(IndexError):  # there is no fifth score
        grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    again = scored(monkeypatch, after)  # of steps 3, 4 and 5
    summary = grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    assert len(again) == 3
    assert summary["kept_step"] == kept
    assert same(seen[kept], workspace.out / "model")


def test_no_more_than_two_policies_wait_on_the_disk(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.at(tmp_path)
    scored(monkeypatch, [0.1, 0.2, 0.3, 0.4, 0.5])
    with pytest.raises(IndexError):
        grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    # The newest checkpoint is that of step 4; the score of step 4 came before it.
    assert {path.name for path in (workspace.scratch / "best").iterdir()} == {"step-2", "step-4"}


def test_a_run_whose_reward_is_exploited_ends_with_its_best_policy_or_fails(
    inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo, "reward_hacking", lambda history, config: "exploited" if len(history) == 3 else None)
    seen = scored(monkeypatch, [0.1, 0.5, 0.4, 0.3])
    workspace = Workspace.at(tmp_path / "best")
    summary = grpo.grpo_iteration(CONFIG, *inputs, 1, workspace)
    assert (summary["steps"], summary["completions"], summary["kept_step"], summary["stopped"]) == (3, 3 * 4, 1, "exploited")
    assert same(seen[1], workspace.out / "model")
    scored(monkeypatch, [0.1, 0.5, 0.4, 0.3])
    with pytest.raises(MathQuarryError, match="exploited"):
        grpo.grpo_iteration(CONFIG.model_copy(update={"keep": "last"}), *inputs, 1, Workspace.at(tmp_path / "last"))


def test_the_rule_is_that_of_the_config(inputs: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies that fall, and a policy that learns what the reward model likes."""
    scored(monkeypatch, [0.9, 0.9, 0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    config = CONFIG.model_copy(update={"steps": 8, "kl_coef": 0.0, "collapse": CollapseConfig(hacking_steps=4), "prompts_per_step": 8})
    rewards: list[float] = []
    step = Loop.step

    def rising(self: Loop, number: int):  # type: ignore[no-untyped-def]
        rollouts, metrics = step(self, number)
        rewards.append(number / 10)
        return rollouts, {**metrics, "reward": rewards[-1]}

    monkeypatch.setattr(Loop, "step", rising)
    summary = grpo.grpo_iteration(config, *inputs, 1, Workspace.at(tmp_path))
    assert (summary["steps"], summary["kept_step"]) == (4, 0)
    assert "accuracy on held-out questions fell" in str(summary["stopped"])


def test_the_best_needs_scores() -> None:
    with pytest.raises(ValidationError, match="keep is `best`.*set evaluate_steps"):
        GRPOConfig(keep="best")


def best_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Best, list[str]]:
    """A record of policies whose weights are a folder without files, and the calls that saved them."""
    calls: list[str] = []

    def gathered(model: object, ranks: object) -> dict[str, int]:
        calls.append("gather")
        return {"weight": 1}

    def saved(model: object, tokenizer: object, place: Path, style: str, weights: dict | None, base: Path) -> None:
        calls.append("save gathered" if weights else "save alone")
        place.mkdir()

    monkeypatch.setattr(keep, "whole_weights", gathered)
    monkeypatch.setattr(keep, "save", saved)
    return Best(folder, {}, cast(PreTrainedTokenizerBase, None), "paper", folder), calls


def models_of(calls: list[str], size: int = 1, first: bool = True) -> Models:
    ranks = SimpleNamespace(size=size, is_first=first, barrier=lambda: calls.append("barrier"))
    return cast(Models, SimpleNamespace(policy=SimpleNamespace(model=None), ranks=ranks))


@pytest.mark.parametrize(
    ("size", "first", "told"), [(1, True, ["save alone"]), (2, True, ["gather", "save gathered"]), (2, False, ["gather"])]
)
def test_all_ranks_gather_the_weights_and_the_first_one_saves_them(
    size: int, first: bool, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, calls = best_in(tmp_path, monkeypatch)
    best.add(1, 0.5, models_of(calls, size, first), None)
    assert calls == [*told, "barrier"]


def test_the_best_up_to_the_checkpoint_stays_beside_a_better_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that resumes from the checkpoint of step 2 needs the policy of step 2, even if it has no earlier score."""
    best, calls = best_in(tmp_path, monkeypatch)
    for step, accuracy, checkpoint in ((2, 0.1, None), (3, 0.2, 2), (4, 0.3, 2)):
        best.add(step, accuracy, models_of(calls), checkpoint)
    assert {path.name for path in tmp_path.iterdir()} == {"step-2", "step-4"}
    best.add(5, 0.4, models_of(calls), 4)
    assert {path.name for path in tmp_path.iterdir()} == {"step-4", "step-5"}


def test_scores_of_a_resumed_run_are_those_up_to_its_checkpoint() -> None:
    values = [(0, {"test_accuracy": 0.1}), (1, {"reward": 0.5}), (2, {"test_accuracy": 0.3, "reward": 0.6}), (3, {"test_accuracy": 0.9})]
    records = [{"step": step, "values": some} for step, some in values]
    assert scores_until(records, 2) == {0: 0.1, 2: 0.3}
