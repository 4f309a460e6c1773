"""The examples of docs/rewards.md: their rewards for completions written by hand, and a run of the stage with each recipe."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathquarry.data.store.workspace import Workspace
from mathquarry.flows.recipe import load_recipe
from mathquarry.models.rl.config import GRPOConfig
from mathquarry.models.rl.grpo import grpo_iteration
from mathquarry.models.rl.reward_terms import RewardTerms
from mathquarry.models.rl.rewards.config import HTTPReward
from tests.conftest import REPOSITORY
from tests.models.rl.rewards.cases import FOUR, TOKENIZER, completions
from tests.models.rl.rewards.servers import served_by_a_script
from tests.models.rl.tiny import save_policy, save_problems

BLOCKS = re.findall(r"^```toml\n(.+?)^```", (REPOSITORY / "docs" / "rewards.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
LENGTH, STEPS, SERVED = range(3)


@pytest.fixture(autouse=True)
def in_the_folder_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY / "docs" / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))


def config_of(block: int, folder: Path) -> GRPOConfig:
    """Section `grpo` of a recipe on the page, small enough to run here."""
    path = folder / "page.toml"
    small = 'steps = 2\nprompts_per_step = 2\ngroup_size = 4\nprecision = "float32"\nrollout = { max_tokens = 24 }'
    path.write_text(BLOCKS[block].replace("[grpo]", f"[grpo]\n{small}", 1), encoding="utf-8")
    return load_recipe(str(path)).grpo


def at(config: GRPOConfig, url: str) -> GRPOConfig:
    """The section with the reward of the page's server, served at `url`."""
    (term,) = config.rewards
    assert isinstance(term, HTTPReward)
    return config.model_copy(update={"rewards": [term.model_copy(update={"url": url})]})


def rewards_of(config: GRPOConfig) -> list[list[float]]:
    return RewardTerms(config, TOKENIZER).rewards(completions(*FOUR), [])[0]


def test_the_page_has_three_examples() -> None:
    assert len(BLOCKS) == 3


def test_the_length_penalty_takes_up_to_a_half_off_the_verdict(tmp_path: Path) -> None:
    import tests.models.rl.rewards.cases as cases

    config = config_of(LENGTH, tmp_path)
    texts = ("so 4", "so 4 " + "x" * 30, "so 4 " + "x" * 100, "5")
    scored = cases.completions(*texts, "5", "5")
    lengths = [len(completion) for completion in scored.completion_ids[:3]]
    assert lengths[0] <= 20 < lengths[1] < 40 < lengths[2]
    found = RewardTerms(config, TOKENIZER).rewards(scored, [])[0]
    assert [row[0] for row in found[:3]] == pytest.approx([1.0, 1 - 0.5 * (lengths[1] - 20) / 20, 0.5])


def test_the_step_reward_judges_the_sums_of_every_step(tmp_path: Path) -> None:
    """2+2=4 is right, 2+2=5 and 2+3=6 are not; the first and the third completion are right."""
    assert rewards_of(config_of(STEPS, tmp_path)) == [[0.2, 1.0], [-0.2, 0.0], [1.0], [-0.2, 0.0, 0.0]]


def test_the_served_reward_looks_for_the_answer(tmp_path: Path) -> None:
    with served_by_a_script(REPOSITORY / "docs" / "examples" / "serve_reward.py") as url:
        assert rewards_of(at(config_of(SERVED, tmp_path), url)) == [[1.0], [0.0], [1.0], [0.0]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_policy(folder / "policy"), save_problems(folder / "problems", 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "names"), [(LENGTH, {"rule", "length_penalty"}), (STEPS, {"right_sums", "rule"}), (SERVED, {"contains"})]
)
def test_the_stage_learns_from_every_example(block: int, names: set[str], inputs: tuple[Path, Path], tmp_path: Path) -> None:
    policy, problems = inputs
    workspace, config = Workspace.at(tmp_path), config_of(block, tmp_path)
    with served_by_a_script(REPOSITORY / "docs" / "examples" / "serve_reward.py") as url:
        grpo_iteration(at(config, url) if block == SERVED else config, policy, None, problems, 1, workspace)
    rows = pq.read_table(workspace.out / "rollouts.parquet").to_pylist()
    assert len(rows) == 16
    weights = {term.called: term.weight for term in config.rewards}
    assert weights.keys() == names
    for row in rows:
        parts = dict(row["rewards"])
        assert parts.keys() == names
        assert sum(row["step_rewards"]) == pytest.approx(sum(weights[name] * sum(parts[name]) for name in names), abs=1e-5)
    for step, record in enumerate(workspace.metrics.read(), 1):
        values = [value for row in rows if row["step"] == step for name, found in row["rewards"] if name == min(names) for value in found]
        assert record["values"][f"rewards/{min(names)}"] == pytest.approx(sum(values) / len(values))
