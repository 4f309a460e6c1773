"""A single stage on the command line is a recipe that starts from the given artifacts and ends with the stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.crawl.config import CrawlFiles
from mathquarry.data.problems.config import ProblemFiles
from mathquarry.flows.__main__ import command_parser, main
from mathquarry.flows.cli.commands.stages import recipe_of
from mathquarry.flows.recipe import Recipe, load_recipe
from tests.flows.test_start import artifact


def chosen(*arguments: str) -> Recipe:
    return recipe_of(command_parser().parse_args(list(arguments)))


def test_a_model_is_a_folder_a_hub_name_or_an_artifact(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    reference = artifact(tmp_path / "store", "sft")
    main(["ledger", "sync", *store])
    (tmp_path / "folder").mkdir()
    for name, meant in {
        str(tmp_path / "folder"): str(tmp_path / "folder"),
        "owner/name@main": "owner/name@main",
        reference: reference,
        "sft": reference,
        reference.removeprefix("sft/")[:8]: reference,
    }.items():
        recipe = chosen("grpo", name, "--recipe", "tiny", *store)
        assert (recipe.start.policy, recipe.start.stages) == (meant, ["grpo"])


def test_settings_are_those_of_a_recipe_or_the_papers(tmp_path: Path) -> None:
    assert chosen("sft", "owner/name", "--recipe", "tiny", "--set", "sft.steps=3").sft == load_recipe("tiny", ["sft.steps=3"]).sft
    assert chosen("sft", "owner/name").sft == Recipe(name="a").sft
    assert chosen("reward", "owner/name").start.stages == ["grpo"]


@pytest.mark.parametrize("recipe", [[], ["--recipe", "tiny"], ["--recipe", "paper-7b"]])
def test_problems_of_ones_own_take_the_place_of_the_recipes(recipe: list[str]) -> None:
    source = chosen("grpo", "owner/name", *recipe, "--train", "a.jsonl", "--train", "b.jsonl", "--test", "c.jsonl").problems.source
    assert isinstance(source, ProblemFiles)
    assert (source.train, source.test) == (["a.jsonl", "b.jsonl"], ["c.jsonl"])


def test_a_reward_model_can_be_given() -> None:
    assert chosen("grpo", "owner/name", "--reward", "owner/reward-model").start.reward == "owner/reward-model"


def test_mining_takes_files_or_a_crawl_of_the_store(tmp_path: Path) -> None:
    assert chosen("mine", "a.warc.gz", "https://b/c.warc.gz", "--recipe", "tiny").crawl.source == CrawlFiles(
        warcs=["a.warc.gz", "https://b/c.warc.gz"]
    )
    reference = artifact(tmp_path, "crawl")
    assert chosen("mine", reference, "--store", str(tmp_path)).start.crawl == reference


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grpo", "owner/name", "--train", "a.jsonl"], "--train and --test go together"),
        (["sft", "grpo-2"], "does not exist"),
        (["sft", "sft/0123456789abcdef0123", "--recipe", "tiny"], "start.policy: sft/0123456789abcdef0123 is not in the store"),
        (["grpo", "reward/0123456789abcdef0123", "--recipe", "tiny"], "is an artifact of stage reward"),
        (["reward", "owner/name", "--recipe", "tiny", "--set", "grpo.paradigm.reward=rule"], "needs no reward model"),
        (["run", "tiny", "--only", "sft", "--until", "grpo"], "--only STAGE stands for"),
        (["sft", "owner/name", "--recipe", "huge"], "there is no recipe huge"),
    ],
)
def test_what_cannot_be_is_reported(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--store", str(tmp_path / "store")]) == 1
    assert said in capsys.readouterr().err
