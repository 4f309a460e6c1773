"""A recipe written as TOML loads as the same recipe."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mathquarry.flows.__main__ import main
from mathquarry.flows.cli.written import inline, recipe_lines
from mathquarry.flows.recipe import Recipe, load_recipe
from mathquarry.flows.recipe_files import recipe_names


def read_back(recipe: Recipe, folder: Path, everything: bool = False) -> Recipe:
    path = folder / "written.toml"
    path.write_text("\n".join(recipe_lines(recipe, everything)), encoding="utf-8")
    return load_recipe(str(path))


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("name", recipe_names())
def test_what_is_written_reads_back_as_the_same_recipe(name: str, everything: bool, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert read_back(recipe, tmp_path, everything).model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=7"],
        ["seed=7", "sft.seed=0"],
        ["sft.seed=7"],
        ["programs.sandbox=local", "programs.seconds=3.0"],
        ["programs.sandbox=local", "evaluate.tools.programs.sandbox=arithmetic"],
        ["evaluate.tools.programs.sandbox=arithmetic"],
        ["sft.schedule={}"],
        ["start.policy=owner/name"],
        ['name="a \\"quoted\\" \\u007f name\\n\\\\"'],
        ["pretrain.skipped_steps=[3, 4]"],
    ],
    ids=" ".join,
)
def test_overrides_are_written_too(overrides: list[str], tmp_path: Path) -> None:
    recipe = load_recipe("tiny", overrides)
    assert read_back(recipe, tmp_path).model_dump() == recipe.model_dump()


def test_what_does_not_differ_is_left_out() -> None:
    lines = recipe_lines(load_recipe("tiny", ["seed=7"]))
    assert "[refresh]" in lines
    assert [line for line in lines if line.startswith(("seed", "replay_share", "kl_coef"))] == ["seed = 7"]


def test_everything_has_every_field() -> None:
    lines = recipe_lines(load_recipe("tiny"), everything=True)
    assert {"kl_coef = 0.04", "replay_share = 0.1", "# tis_cap is not set", "[grpo.collapse]"} <= set(lines)


@pytest.mark.parametrize("value", ["a", 'q"', "\\", "é", "\n\t", "\x7f", 1, -2.5, 1e-9, 1e22, True, [], [1, [2]], {"a b": [{"c": "d"}]}])
def test_a_value_in_one_line_is_that_value(value: object) -> None:
    assert tomllib.loads(f"x = {inline(value)}")["x"] == value


def test_a_dry_run_prints_what_differs_and_with_all_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "tiny", "--dry-run"]) == 0
    short = capsys.readouterr().out
    assert main(["run", "tiny", "--dry-run", "--all"]) == 0
    long = capsys.readouterr().out
    assert "kl_coef" not in short
    assert "kl_coef = 0.04" in long
    for said in ("stages: problems -> crawl -> mine -> pretrain", "grpo: 0.16 passes over 4,000 questions", "weights on h100"):
        assert said in short
