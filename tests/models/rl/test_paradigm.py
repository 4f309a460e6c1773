"""The methods of paper section 5.2 as configs of one loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mathquarry.models.rl.grpo as grpo
from mathquarry.data.errors import MathQuarryError
from mathquarry.data.solutions.example import Example, Segment, write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.checkpoint import load_policy
from mathquarry.models.rl.config import METHODS, GRPOConfig, ParadigmConfig
from mathquarry.models.rl.method import check_method
from mathquarry.models.rl.paradigm import coefficients
from mathquarry.models.rl.update import Experience, sequence_logprobs, update_policy
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.tiny import save_policy, save_problems, save_reward, scored, tiny_policy


def test_the_table_of_methods_is_the_papers() -> None:
    rows = {name: (method.data, method.reward, method.advantage) for name, method in METHODS.items()}
    assert rows == {
        "sft": ("examples", "none", "constant"),
        "rft": ("offline", "rule", "reward"),
        "online-rft": ("online", "rule", "reward"),
        "dpo": ("offline", "rule", "preference"),
        "ppo": ("online", "model", "gae"),
        "grpo": ("online", "model", "group"),
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"paradigm": ParadigmConfig(reward="none")}, "needs a reward"),
        ({"paradigm": ParadigmConfig(data="examples", reward="rule", advantage="reward")}, "sampled completions"),
        ({"paradigm": METHODS["dpo"], "num_updates": 2}, "num_updates = 1"),
        ({"paradigm": METHODS["dpo"], "group_size": 1}, "at least 2"),
        ({"paradigm": ParadigmConfig(reward="rule"), "supervision": "process"}, "supervision"),
    ],
)
def test_a_combination_without_meaning_is_refused(changes: dict, named: str) -> None:
    with pytest.raises(MathQuarryError, match=named):
        check_method(GRPOConfig(**changes))


def test_dpo_raises_right_completions_against_wrong_ones() -> None:
    config = GRPOConfig(precision="float32", paradigm=METHODS["dpo"], learning_rate=1e-2)
    policy, reference = tiny_policy(0), tiny_policy(0)
    rollouts = scored([[5, 6]] * 2, [[20, 21], [30, 31]], [[1], [1]], [[1.0], [0.0]], 2)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    losses = []
    for _ in range(5):
        advantages_BT, metrics = coefficients(rollouts, config, policy, reference, None)
        losses.append(metrics["preference_loss"])
        update_policy(policy, reference, optimizer, Experience(rollouts.prompts, rollouts.completions, advantages_BT), config)
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses == sorted(losses, reverse=True)
    good, bad = (
        float((a - b).sum())
        for a, b in zip(*(sequence_logprobs(m, rollouts.prompts, rollouts.completions, config) for m in (policy, reference)), strict=True)
    )
    assert good > 0 > bad


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    save_problems(folder / "problems", 12)
    (folder / "problems" / "train.jsonl").rename(folder / "problems" / "test.jsonl")
    examples = [
        Example(f"p{i}", f"Tom has {i} apples.", "cot", "en", [Segment(f"The answer is \\boxed{{{i}}}.")], str(i)) for i in range(12)
    ]
    problems = save_problems(folder / "problems", 12)
    write_examples(problems / "examples.jsonl", examples)
    return save_policy(folder / "policy"), save_reward(folder / "reward"), problems


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_is_a_config_of_one_loop_and_resumes_with_the_same_bytes(
    name: str, inputs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    policy, reward, problems = inputs
    changes = {"steps": 2, "prompts_per_step": 2, "group_size": 4, "supervision": "outcome", "learning_rate": 1e-3}
    config = GRPOConfig(
        paradigm=METHODS[name],
        precision="float32",
        rollout=RolloutConfig(max_tokens=6),
        checkpoint_steps=1,
        evaluate_steps=1,
        evaluate_questions=4,
        **changes,
    )
    whole, halved = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "halved")
    summary = grpo.grpo_iteration(config, policy, reward, problems, 1, whole, problems)
    assert summary["completions"] == 2 * 2 * 4
    assert [record["step"] for record in whole.metrics.read()] == [0, 1, 2]
    moved = any(
        not torch.equal(a, b) for a, b in zip(load_policy(policy).parameters(), load_policy(whole.out / "model").parameters(), strict=True)
    )
    # A random policy is never right, so methods that learn from right completions alone have nothing to learn from.
    assert moved == (name in ("sft", "ppo", "grpo"))

    def dies(step: int, *_: object, **__: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    halved.metrics.log = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        grpo.grpo_iteration(config, policy, reward, problems, 1, halved, problems)
    resumed = Workspace.at(tmp_path / "halved")
    grpo.grpo_iteration(config, policy, reward, problems, 1, resumed, problems)
    for file in ("model/model.safetensors", "rollouts.parquet"):
        assert (whole.out / file).read_bytes() == (resumed.out / file).read_bytes()
