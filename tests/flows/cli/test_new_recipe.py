"""`recipe new` writes a recipe that loads and explains each field."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mathquarry.data.problems.config import ProblemFiles
from mathquarry.flows.__main__ import main
from mathquarry.flows.cli.new_recipe import Answers, ask
from mathquarry.flows.recipe import Recipe, load_recipe


def new(path: Path, *arguments: str) -> Recipe:
    assert main(["recipe", "new", str(path), *arguments]) == 0
    return load_recipe(str(path))


OWN = ("--model", "owner/name", "--train", "a.jsonl", "--test", "b.jsonl")


def test_a_model_and_problems_make_a_recipe(tmp_path: Path) -> None:
    recipe = new(tmp_path / "own.toml", *OWN, "--stages", "sft, grpo", "--set", "grpo.steps=7")
    assert recipe.name == "own"
    assert (recipe.start.policy, recipe.start.stages) == ("owner/name", ["sft", "grpo"])
    assert recipe.problems.source == ProblemFiles(train=["a.jsonl"], test=["b.jsonl"])
    assert (recipe.grpo.steps, recipe.grpo.paradigm.reward, recipe.grpo.supervision) == (7, "rule", "outcome")


def test_every_field_stands_under_its_description(tmp_path: Path) -> None:
    new(tmp_path / "own.toml", *OWN)
    lines = (tmp_path / "own.toml").read_text().splitlines()
    fields = [(above, line) for above, line in itertools.pairwise(lines) if " = " in line and not line.startswith("#")]
    assert len(fields) > 10
    assert [line for above, line in fields if not above.startswith("#") and not line.startswith("kind")] == []


@pytest.mark.parametrize("flags", [[], ["--stages", "pretrain,grpo"], ["--reward", "model"], ["--engine", "vllm"], ["--warc", "a.warc.gz"]])
def test_whatever_is_chosen_loads(flags: list[str], tmp_path: Path) -> None:
    recipe = new(tmp_path / "own.toml", *OWN, *flags)
    assert recipe.grpo.supervision == "outcome"
    if "model" in flags:
        assert recipe.reward.supervision == "outcome"


def test_what_extends_another_says_only_what_was_chosen(tmp_path: Path) -> None:
    recipe = new(tmp_path / "own.toml", "--extends", "tiny", "--reward", "rule")
    assert recipe.grpo.model_copy(update={"paradigm": None}) == load_recipe("tiny").grpo.model_copy(update={"paradigm": None})
    assert recipe.grpo.paradigm.reward == "rule"
    assert "steps" not in (tmp_path / "own.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["own.txt", *OWN], "must end in .toml"),
        (["there.toml", *OWN], "there.toml exists already"),
        (["own.toml"], "give --model, --train and --test"),
        (["own.toml", "--model", "a/b", "--train", "a"], "--train and --test go together"),
        (["own.toml", *OWN, "--stages", "sft,dpo"], "--stages has dpo"),
        (["own.toml", "--extends", "tiny", "--stages", "sft"], "--stages needs --model"),
        (["own.toml", "--extends", "huge"], "there is no recipe huge"),
        (["own.toml", *OWN, "--set", "grpo.stepps=3"], "grpo.stepps: there is no such field"),
        (["own.toml", *OWN, "--set", "grpo.steps=-3"], "grpo.steps"),
        (["own.toml", *OWN, "--set", "grpo"], "write it as section.field=value"),
    ],
)
def test_what_makes_no_recipe_is_reported_and_nothing_is_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.toml").write_text("mine")
    assert main(["recipe", "new", *arguments]) == 1
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]
    assert (tmp_path / "there.toml").read_text() == "mine"


def test_at_a_terminal_only_what_is_open_is_asked() -> None:
    said = iter(["", "train.jsonl", "held.jsonl", "grpo", "teacher", "rule", ""])
    asked: list[str] = []

    def read(question: str) -> str:
        asked.append(question)
        return next(said)

    answers = Answers(model="owner/name")
    ask(answers, read)
    assert answers == Answers(model="owner/name", train=["train.jsonl"], test=["held.jsonl"], stages="grpo", reward="rule")
    assert not any("Model" in question for question in asked)
    assert sum("Reward function" in question for question in asked) == 2


def test_the_recipes_that_come_along_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "ls"]) == 0
    assert "tiny         the whole pipeline on a laptop" in capsys.readouterr().out
