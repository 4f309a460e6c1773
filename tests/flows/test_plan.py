import pytest

from flows.__main__ import main
from flows.plan import plan_lines, readable_bytes
from flows.recipe import load_recipe


def test_the_plan_of_the_papers_recipe_has_a_row_a_stage_and_its_assumptions() -> None:
    lines = plan_lines(load_recipe("paper-7b"), "h100", 64)
    assert [line.split()[0] for line in lines[2:-2]] == ["mine", "pretrain", "sft", "reward-0", "grpo-1", "reward-1", "grpo-2", "evaluate"]
    assert lines[-2].startswith("all ")
    assert "50 GB/s between GPUs" in lines[-1]
    assert len({len(line) for line in lines[1:-1]}) == 1


def test_what_does_not_fit_is_named() -> None:
    lines = plan_lines(load_recipe("paper-7b"), "rtx4090", 1)
    assert any(line.startswith("pretrain does not fit: it needs 1") for line in lines)
    assert not any("does not fit" in line for line in plan_lines(load_recipe("tiny"), "rtx4090", 1))


def test_a_model_of_unknown_size_is_no_model_of_size_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "paper-7b", "--set", 'model={kind="pretrained", path="somewhere"}']) == 0
    assert "model.parameters is not set" in capsys.readouterr().out


def test_no_gpus_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "tiny", "--gpus", "0"]) == 1
    assert "at least one GPU" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (8.3e13, "83.0 TB"), (1.038e17, "103.8 PB")])
def test_sizes_are_in_the_largest_unit_that_leaves_a_figure_of_one(size: float, text: str) -> None:
    assert readable_bytes(size) == text
