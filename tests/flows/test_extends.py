"""A recipe says only how it differs from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathquarry.data.crawl.config import CrawlFiles
from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.recipe import load_recipe


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_what_a_recipe_does_not_say_is_as_in_the_one_that_it_extends(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", 'extends = "tiny"\nseed = 5\n[grpo]\nsteps = 3\n[grpo.rollout]\ntemperature = 0.5\n')
    own, tiny = load_recipe(path), load_recipe("tiny")
    assert (own.name, own.description, own.grpo.steps, own.seed, own.sft.seed) == ("own", "", 3, 5, 5)
    assert own.grpo.rollout.max_tokens == tiny.grpo.rollout.max_tokens == 40
    assert own.mine.model_dump(exclude={"seed"}) == tiny.mine.model_dump(exclude={"seed"})


def test_a_path_is_seen_from_the_file_that_has_it(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'extends = "tiny"\niterations = 7\n[grpo]\nsteps = 3\n')
    path = write(tmp_path / "below" / "own.toml", 'extends = "../base.toml"\n[grpo]\nsteps = 4\n')
    recipe = load_recipe(path, ["grpo.learning_rate=2e-5"])
    assert (recipe.iterations, recipe.grpo.steps, recipe.grpo.learning_rate, recipe.grpo.prompts_per_step) == (7, 4, 2e-5, 32)


def test_a_source_of_another_kind_has_none_of_the_fields_of_the_one_before(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", 'extends = "tiny"\n[crawl.source]\nkind = "files"\nwarcs = ["a.warc.gz"]\n')
    assert load_recipe(path).crawl.source == CrawlFiles(warcs=["a.warc.gz"])


def test_lists_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", 'extends = "tiny"\n[mine]\ntoken_budgets = [5]\n')
    assert load_recipe(path).mine.token_budgets == [5]


def test_what_a_recipe_extends_it_runs_after_a_given_policy(tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", 'extends = "tiny"\n[start]\npolicy = "owner/name"\n')
    assert load_recipe(path).start.stages == ["pretrain", "sft", "grpo"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"own": 'extends = "own.toml"'}, "a recipe cannot extend itself"),
        (
            {"own": 'extends = "b.toml"', "b": 'extends = "c.toml"', "c": 'extends = "own.toml"'},
            "b.toml extends .*c.toml extends .*own.toml",
        ),
        ({"own": 'extends = "nowhere"'}, "own.toml extends nowhere: there is no recipe nowhere. Use one of .*tiny"),
        ({"own": 'extends = "nowhere.toml"'}, "own.toml extends nowhere.toml: there is no recipe"),
        ({"own": "extends = 3"}, "extends is 3; it must be the name of a recipe"),
        ({"own": 'extends = ["tiny"]'}, "extends is .'tiny'."),
        ({"own": 'extends = "../../etc/passwd"'}, "there is no recipe"),
        ({"own": 'extends = "b.toml"', "b": "seed = = 3"}, "b.toml is not TOML"),
        ({"own": 'extends = "b.toml"', "b": "[grpo]\nstepps = 3"}, "grpo.stepps: there is no such field; did you mean steps"),
        ({"own": 'extends = "tiny"\ngrpo = 3'}, "grpo: "),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        write(tmp_path / f"{name}.toml", text)
    with pytest.raises(MathQuarryError, match=said):
        load_recipe(str(tmp_path / "own.toml"))


def test_a_chain_without_an_end_is_refused(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"{number}.toml", f'extends = "{number + 1}.toml"')
    with pytest.raises(MathQuarryError, match="nor more than 20 others"):
        load_recipe(str(tmp_path / "0.toml"))
