"""Forms for users: usable fields, and wrong values refused by the schema that the server checks."""

from __future__ import annotations

from typing import Any, get_args

import jsonschema
import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.recipe import load_recipe
from mathquarry.flows.recipe_files import recipe_names
from mathquarry.flows.served.deploy import deployments
from mathquarry.flows.served.forms import AblateForm, CompareForm, RecipeName, RunForm, StageName
from mathquarry.flows.stages.registry import STAGES

SCHEMAS = {deployment.name: deployment._parameter_openapi_schema.model_dump() for deployment in deployments()}


def refuses(flow: str, parameters: dict[str, Any]) -> bool:
    return not jsonschema.Draft202012Validator(SCHEMAS[flow]).is_valid(parameters)


def test_the_choices_are_the_recipes_and_stages_that_exist() -> None:
    assert sorted(get_args(RecipeName)) == recipe_names()
    assert list(get_args(StageName)) == list(STAGES)


def test_every_flow_has_a_deployment() -> None:
    assert set(STAGES) | {"import-corpus", "reward-refresh", "pipeline", "compare", "ablate", "grpo-iteration", "mine-snapshots"} == set(
        SCHEMAS
    )


@pytest.mark.parametrize(("flow", "form"), [("pipeline", "RunForm"), ("compare", "CompareForm"), ("ablate", "AblateForm")])
def test_every_field_of_a_form_has_a_title_and_a_description(flow: str, form: str) -> None:
    for name, field in SCHEMAS[flow]["definitions"][form]["properties"].items():
        assert field["title"], name
        assert field["description"], name


@pytest.mark.parametrize(
    "fields",
    [
        {"recipe": "huge"},
        {"iterations": -1},
        {"supervision": "none"},
        {"overrides": ["no equals sign"]},
        {"begin_at": "middle"},
        {"unknown": 1},
    ],
)
def test_the_schema_refuses_what_the_run_form_does_not_allow(fields: dict[str, Any]) -> None:
    assert not refuses("pipeline", {"run": {"recipe": "tiny"}})
    assert refuses("pipeline", {"run": fields})


def test_a_wrong_override_is_refused_with_the_reason() -> None:
    errors = list(jsonschema.Draft202012Validator(SCHEMAS["pipeline"]).iter_errors({"run": {"recipe": "tiny", "overrides": ["nonsense"]}}))
    assert [error.message for error in errors] == ["'nonsense' is not one of ['section.field=value, for example grpo.kl_coef=0.05']"]
    assert not refuses("pipeline", {"run": {"recipe": "tiny", "overrides": ["grpo.kl_coef = 0.05"]}})
    with pytest.raises(ValueError, match="write it as section.field=value"):
        RunForm(recipe="tiny", overrides=["nonsense"])


def test_a_stage_refuses_a_reference_that_is_none() -> None:
    good = {"store": "/store", "config": {}, "base": "pretrain/" + "0" * 20, "examples": "curate/" + "1" * 20}
    assert not refuses("sft", good)
    assert refuses("sft", {**good, "base": "the newest"})
    assert refuses("sft", {**good, "config": {"learning_rate": -1}})


def test_fields_of_the_form_override_the_recipe() -> None:
    recipe = RunForm(recipe="tiny", seed=3, iterations=1, grpo_steps=2, supervision="process", overrides=["grpo.kl_coef=0.5"]).resolve("r1")
    assert (recipe.iterations, recipe.grpo.steps, recipe.grpo.kl_coef) == (1, 2, 0.5)
    assert (recipe.sft.seed, recipe.grpo.supervision, recipe.reward.supervision) == (3, "process", "process")


def test_an_empty_field_of_the_comparison_keeps_the_recipes_value() -> None:
    usual = load_recipe("tiny", []).compare
    assert CompareForm(recipe="tiny").resolve().compare == usual
    chosen = CompareForm(recipe="tiny", methods=["grpo+ps", "rft"], seeds=[0, 7], steps=3).resolve().compare
    assert (chosen.methods, chosen.seeds, chosen.steps) == (["grpo+ps", "rft"], [0, 7], 3)
    assert chosen.evaluate_steps == usual.evaluate_steps


def test_seeds_of_an_experiment_can_be_chosen() -> None:
    usual = load_recipe("tiny", []).ablate
    assert AblateForm(recipe="tiny").resolve().ablate == usual
    assert AblateForm(recipe="tiny", experiment="papers", seeds=[4]).resolve().ablate == usual.model_copy(update={"seeds": [4]})
    assert refuses("ablate", {"mixes": {"recipe": "tiny", "experiment": "poems"}})


def test_an_override_of_a_field_that_does_not_exist_is_named() -> None:
    with pytest.raises(MathQuarryError, match="did you mean kl_coef"):
        RunForm(recipe="tiny", overrides=["grpo.kl_coeff=0.5"]).resolve("r1")
