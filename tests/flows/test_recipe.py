"""Recipes: the paper's numbers as defaults, overrides, and errors that name the field."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.__main__ import main
from mathquarry.flows.recipe import Recipe, load_recipe, override_recipe
from mathquarry.flows.recipe_files import recipe_names


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
    assert (recipe.grpo.learning_rate, recipe.grpo.kl_coef, recipe.grpo.group_size, recipe.grpo.num_updates) == (
        1e-6,
        0.04,
        64,
        1,
    )
    assert recipe.grpo.prompts_per_step * recipe.grpo.group_size == 1024
    assert (recipe.reward.learning_rate, recipe.refresh.replay_share) == (2e-5, 0.1)
    assert recipe.grpo.problem_sets == recipe.reward.problem_sets == ["gsm8k", "math"]


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
        ("grpo.outputs_per_question=8", "grpo.outputs_per_question: renamed to group_size."),
        ("rejection.outputs_per_question=8", "rejection.outputs_per_question: renamed to group_size."),
        ("grpo.questions_per_step=8", "grpo.questions_per_step: renamed to prompts_per_step."),
        ("grpo.updates_per_step=1", "grpo.updates_per_step: renamed to num_updates."),
        ("grpo.importance_cap=2.0", "grpo.importance_cap: renamed to tis_cap."),
        ("grpo.rollout.batch_outputs=8", "grpo.rollout.batch_outputs: renamed to batch_completions."),
        ("grpo.collapse.shortest_output=1.0", "grpo.collapse.shortest_output: renamed to shortest_completion."),
        ("grpo.paradigm.coefficient=group", "grpo.paradigm.coefficient: renamed to advantage."),
        ("grpo.paradigm.data=policy", "grpo.paradigm.data: 'policy' was renamed to 'online'."),
        ("grpo.paradigm.advantage=one", "grpo.paradigm.advantage: 'one' was renamed to 'constant'."),
        ("grpo.clip_range=0.1", "grpo.clip_range: this field was removed: give clip_low and clip_high."),
        ("grpo.dapo=true", 'grpo.dapo: this field was removed: use preset = "dapo".'),
        ("mine.clasifier.dim=3", "mine.clasifier: there is no such field; did you mean classifier?"),
        ("grpo.kl_coeff=0.1", "grpo.kl_coeff: there is no such field"),
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
    with pytest.raises(MathQuarryError, match="Use one of .*paper-7b.*tiny"):
        load_recipe("huge")


def test_variables_are_filled_in_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[crawl.source]\nkind = "files"\nwarcs = ["${MATHQUARRY_CRAWL}/a.warc", "${MATHQUARRY_OTHER:-other}/b.warc"]\n')
    monkeypatch.setenv("MATHQUARRY_CRAWL", "somewhere")
    recipe = load_recipe(str(path))
    assert recipe.name == "own"
    assert recipe.model_dump()["crawl"]["source"]["warcs"] == ["somewhere/a.warc", "other/b.warc"]
    monkeypatch.delenv("MATHQUARRY_CRAWL")
    with pytest.raises(
        MathQuarryError,
        match=r"crawl\.source\.warcs\.0: \$\{MATHQUARRY_CRAWL\} is not set\. Set the environment variable MATHQUARRY_CRAWL\.",
    ):
        load_recipe(str(path))


def test_a_record_has_the_names_of_variables_and_gives_the_same_recipe_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATHQUARRY_STEPS", "7")
    monkeypatch.setenv("MATHQUARRY_TIME", "3.50")
    monkeypatch.setenv("MATHQUARRY_WORDS", "words of this host")
    written = {
        "grpo.steps": "${MATHQUARRY_STEPS}",
        "programs.seconds": "${MATHQUARRY_TIME}",
        "description": "${MATHQUARRY_WORDS}",
    }
    recipe = load_recipe("tiny", [f"{field}={json.dumps(text)}" for field, text in written.items()])
    assert (recipe.grpo.steps, recipe.evaluate.tools.programs.seconds, recipe.description) == (7, 3.5, "words of this host")
    record = json.loads(json.dumps(recipe.recorded()))
    assert (record["grpo"]["steps"], record["description"]) == ("${MATHQUARRY_STEPS}", "${MATHQUARRY_WORDS}")
    assert "3.5" not in json.dumps([record["programs"], record["evaluate"]["tools"], record["rejection"]["tools"], record["harness"]])
    assert override_recipe(record, []).model_dump() == recipe.model_dump()
    assert override_recipe(record, []).recorded() == record


@pytest.mark.parametrize(
    "text",
    [
        "${SECRET_WORD}",
        "a ${SECRET_WORD} b",
        "${SECRET_WORD:-x}",
        "${XMATHQUARRY_A}${SECRET_WORD}",
        "${mathquarry_a}",
        "${MATHQUARRYSECRET:-}",
    ],
)
@pytest.mark.parametrize("field", ["name", "description", "mine.review", "crawl.source.nowhere"])
def test_a_secret_of_the_environment_is_not_filled_in(text: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_WORD", "XMATHQUARRY_A", "MATHQUARRYSECRET", "mathquarry_a"):
        monkeypatch.setenv(name, "hunter2")
    for load in (
        lambda: load_recipe("tiny", [f"{field}={text}"]),
        lambda: override_recipe(load_recipe("tiny").recorded(), [f"{field}={text}"]),
    ):
        with pytest.raises(MathQuarryError, match=r"is not filled in, since its value would be recorded") as refused:
            load()
        assert "hunter2" not in str(refused.value)


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[crawl")
    with pytest.raises(MathQuarryError, match=r"own\.toml is not TOML"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "\xe9"', "is not UTF-8"),
        ('name = "x"'.encode("utf-16"), "is not UTF-8"),
        (b"x = " + b"[" * 100_000, "nested too deep"),
        (b"x = " + b"[" * 100 + b"]" * 100, "nested more than 20 levels deep"),
        (b"[" + b".".join([b"a"] * 3000) + b"]\nx = 1", "nested"),
        (b"seed = " + b"9" * 5000, "4300 digits"),
        (b"seed = " + b"9" * 400, "more than 64 bits"),
        (b"seed = 0x" + b"f" * 5000, "more than 64 bits"),
        (b"name = 1979-05-27", "has a date"),
        (b"\0", "is not TOML"),
    ],
)
def test_a_hostile_recipe_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hostile.toml"
    path.write_bytes(content)
    with pytest.raises(MathQuarryError, match=f"hostile.toml.*{message}"):
        load_recipe(str(path))


@pytest.mark.parametrize("value", ["9" * 5000, "9" * 30, "[" * 3000, "[" * 50 + "]" * 50, "\udcff"])
def test_a_hostile_override_is_one_clear_error_that_names_the_field(value: str) -> None:
    with pytest.raises(MathQuarryError, match="--set seed"):
        load_recipe("tiny", [f"seed={value}"])


@pytest.mark.parametrize("value", ["-5", "1.5", "9" * 5000, "x", ""])
@pytest.mark.parametrize("command", [["ledger", "ls", "--limit"], ["ledger", "sql", "select 1", "--limit"], ["domains", "--limit"]])
def test_a_count_that_is_none_is_refused_before_anything_runs(
    command: list[str], value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, value, "--store", str(tmp_path / "store")])
    assert ended.value.code == 2
    assert "not a whole number of 0 or more" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/sys, where nobody may make a folder, is Linux's")
@pytest.mark.parametrize("command", [["ledger", "sync"], ["run", "tiny"]])
def test_a_store_that_may_not_be_written_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """/sys refuses folders to everybody, even to the superuser."""
    assert main([*command, "--store", "/sys/mathquarry"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("mathquarry: /sys/mathquarry")
    assert "(--store)" in line


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


@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
def test_no_setting_is_endless(number: str) -> None:
    with pytest.raises(MathQuarryError, match=r"pretrain\.learning_rate"):
        load_recipe("tiny", [f"pretrain.learning_rate={number}"])


def test_a_byte_order_mark_before_a_recipe_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('name = "own"', encoding="utf-8-sig")
    assert load_recipe(str(path)).name == "own"
