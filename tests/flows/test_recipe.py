"""Recipes: the paper's numbers as defaults, overrides, and errors that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import MathQuarryError
from flows.recipe import Recipe, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_along_loads(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_paper_recipe_has_the_papers_numbers() -> None:
    recipe = load_recipe("paper-7b")
    assert (recipe.mine.classifier.dim, recipe.mine.classifier.learning_rate, recipe.mine.classifier.epochs) == (256, 0.1, 3)
    assert (recipe.pretrain.learning_rate, recipe.pretrain.batch_tokens, recipe.pretrain.total_tokens) == (
        4.2e-4,
        10_000_000,
        500_000_000_000,
    )
    assert [source.weight for source in recipe.pretrain.mix] == [0.56, 0.04, 0.10, 0.20, 0.10]
    assert (recipe.sft.learning_rate, recipe.sft.steps, recipe.sft.batch_tokens // recipe.sft.context_tokens) == (5e-5, 500, 256)
    assert (recipe.grpo.learning_rate, recipe.grpo.kl_coef, recipe.grpo.outputs_per_question, recipe.grpo.updates_per_step) == (
        1e-6,
        0.04,
        64,
        1,
    )
    assert recipe.grpo.questions_per_step * recipe.grpo.outputs_per_question == 1024
    assert (recipe.reward.learning_rate, recipe.refresh.replay_share) == (2e-5, 0.1)


def test_an_override_reaches_a_nested_field() -> None:
    recipe = load_recipe("tiny", ["mine.classifier.dim=8", "mine.token_budgets=[5, 6]", "grpo.supervision=outcome"])
    assert (recipe.mine.classifier.dim, recipe.mine.token_budgets, recipe.grpo.supervision) == (8, [5, 6], "outcome")


def test_one_seed_reaches_every_section_that_sets_none() -> None:
    recipe = load_recipe("tiny", ["seed=7", "sft.seed=3"])
    assert {recipe.problems.seed, recipe.mine.seed, recipe.pretrain.seed, recipe.grpo.seed, recipe.evaluate.seed} == {7}
    assert recipe.sft.seed == 3
    assert load_recipe("tiny").reward.seed == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mine.clasifier.dim=3", "mine.clasifier: there is no such field; did you mean classifier?"),
        ("grpo.kl=0.1", "grpo.kl: there is no such field"),
        ("crawl.source.pagse=3", "crawl.source.pagse: there is no such field"),
        ("pretrain.batch_tokens=-3", r"pretrain.batch_tokens: Input should be greater than or equal to 1 \(got -3\)"),
        ("grpo.supervision=both", "grpo.supervision: Input should be 'outcome' or 'process'"),
        ("grpo", "write it as section.field=value"),
        ("name.x=1", "name is a value, not a section"),
    ],
)
def test_a_wrong_override_names_the_field(override: str, message: str) -> None:
    with pytest.raises(MathQuarryError, match=message):
        load_recipe("tiny", [override])


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(MathQuarryError, match="Known recipes: .*paper-7b.*tiny"):
        load_recipe("huge")


def test_variables_are_filled_in_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[crawl.source]\nkind = "files"\nwarcs = ["${MQ_CRAWL}/a.warc", "${MQ_OTHER:-other}/b.warc"]\n')
    monkeypatch.setenv("MQ_CRAWL", "somewhere")
    recipe = load_recipe(str(path))
    assert recipe.name == "own"
    assert recipe.model_dump()["crawl"]["source"]["warcs"] == ["somewhere/a.warc", "other/b.warc"]
    monkeypatch.delenv("MQ_CRAWL")
    with pytest.raises(MathQuarryError, match="Set the environment variable MQ_CRAWL"):
        load_recipe(str(path))


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[crawl")
    with pytest.raises(MathQuarryError, match=r"own\.toml is not TOML"):
        load_recipe(str(path))


def test_every_field_has_a_description() -> None:
    def missing(model: type, where: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            nested = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(kind, "model_fields")]
            for kind in nested:
                found += missing(kind, f"{where}{name}.")
                if not kind.__doc__:
                    found.append(f"{where}{name}")
            if not nested and not field.description and name != "kind":
                found.append(f"{where}{name}")
        return found

    assert missing(Recipe, "") == []


def test_one_section_chooses_the_sandbox_and_a_stage_may_choose_its_own() -> None:
    recipe = load_recipe("tiny", ["programs.sandbox=local", "programs.seconds=3.0"])
    for section in (recipe.evaluate, recipe.rejection):
        assert (section.tools.programs.sandbox, section.tools.programs.seconds) == ("local", 3.0)
    assert recipe.harness.programs.sandbox == "local"
    recipe = load_recipe("tiny", ["programs.sandbox=local", "evaluate.tools.programs.sandbox=arithmetic"])
    assert (recipe.evaluate.tools.programs.sandbox, recipe.rejection.tools.programs.sandbox) == ("arithmetic", "local")
