"""GRPO and the reward model ask only the questions of the sets that their config names."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.solutions.example import Example, Segment, write_examples
from mathquarry.data.store.workspace import Workspace
from mathquarry.models.policy.tokenizer import encode
from mathquarry.models.reward.config import RewardConfig
from mathquarry.models.reward.examples import read_reward_data
from mathquarry.models.reward.stage import train_reward
from mathquarry.models.rl.config import GRPOConfig, ParadigmConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rollout.config import RolloutConfig
from tests.models.rl.tiny import ScriptedEngine, save_policy, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
GRPO = GRPOConfig(
    paradigm=ParadigmConfig(reward="rule"),
    supervision="outcome",
    problem_sets=["odd"],
    steps=1,
    prompts_per_step=8,
    group_size=2,
    precision="float32",
    rollout=RolloutConfig(max_tokens=4),
)
REWARD = RewardConfig(
    supervision="outcome",
    problem_sets=["odd"],
    group_size=1,
    context_tokens=64,
    batch_tokens=512,
    micro_batch_rows=8,
    validation_share=0.0,
    precision="float32",
    rollout=RolloutConfig(max_tokens=20),
)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """Four problems of each of the sets `even` and `odd`."""
    found = [Problem(f"p{i}", f"Tom has {i} apples and gets 2 more.", str(i + 2), source="odd" if i % 2 else "even") for i in range(8)]
    write_problems(tmp_path / "problems" / "train.jsonl", found)
    return tmp_path / "problems"


def asked(workspace: Workspace) -> set[str]:
    return set(pq.read_table(workspace.out / "rollouts.parquet")["problem_id"].to_pylist())


def test_grpo_asks_the_questions_of_its_sets(problems: Path, tmp_path: Path) -> None:
    restricted, all_sets = Workspace.at(tmp_path / "restricted"), Workspace.at(tmp_path / "all")
    policy = save_policy(tmp_path / "policy")
    grpo_iteration(GRPO, policy, None, problems, 1, restricted)
    assert asked(restricted) == {"p1", "p3", "p5", "p7"}
    grpo_iteration(GRPO.model_copy(update={"problem_sets": []}), policy, None, problems, 1, all_sets)
    assert asked(all_sets) == {f"p{number}" for number in range(8)}


def test_worked_solutions_are_those_of_problems_in_the_sets(problems: Path, tmp_path: Path) -> None:
    examples = [Example(f"p{i}", f"Tom has {i} apples.", "cot", "en", [Segment(rf"\boxed{{{i + 2}}}")], str(i + 2)) for i in range(8)]
    write_examples(tmp_path / "curate" / "examples.jsonl", examples)
    workspace = Workspace.at(tmp_path / "sft")
    paradigm = ParadigmConfig(data="examples", reward="none", advantage="constant")
    config = GRPO.model_copy(update={"paradigm": paradigm})
    grpo_iteration(config, save_policy(tmp_path / "policy"), None, problems, 1, workspace, tmp_path / "curate")
    assert asked(workspace) == {"p1", "p3", "p5", "p7"}


def test_reward_data_is_about_the_questions_of_its_sets(problems: Path, tmp_path: Path) -> None:
    policy, workspace = save_policy(tmp_path / "policy"), Workspace.at(tmp_path / "reward")
    engine = ScriptedEngine(lambda prompt, seed, sample: ([*encode(TOKENIZER, "\\boxed{3}"), TOKENIZER.eos_token_id], True))
    train_reward(REWARD, policy, policy, problems, workspace, engine)
    assert {e.problem_id for e in read_reward_data(workspace.out / "reward_data.parquet")} == {"p1", "p3", "p5", "p7"}


def test_a_set_without_problems_is_refused(problems: Path, tmp_path: Path) -> None:
    config = GRPO.model_copy(update={"problem_sets": ["odd", "math"]})
    with pytest.raises(MathQuarryError, match="problem_sets names math, but the training problems are of even, odd"):
        grpo_iteration(config, save_policy(tmp_path / "policy"), None, problems, 1, Workspace.at(tmp_path / "run"))
