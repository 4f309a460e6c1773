"""Curation: three formats, programs that were executed, a reason for every drop, and choices that depend only on seed and id."""

import json

import pytest

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.problems.answers import extract_answer
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import GeneratedProblems, ProblemFiles, ProblemsConfig
from mathquarry.data.problems.problem import Problem, write_problems
from mathquarry.data.programs.arithmetic import run_program
from mathquarry.data.solutions.config import CurateConfig
from mathquarry.data.solutions.curate import curate
from mathquarry.data.solutions.example import read_examples
from mathquarry.data.store.workspace import Workspace

TOM = Problem("g-1", "Tom?", "9", "5+7=<<5+7=12>>12\n12-3=<<12-3=9>>9", "en", "generated")
NATALIA = Problem("w-1", "Clips?", "72", "She sold 48/2 = <<48/2=24>>24 in May.\nShe sold 48+24 = <<48+24=72>>72 in all.", "en", "gsm8k")
MATH = Problem("m-1", "Value?", "4", r"The degree is $\boxed{4}$ here.", "en", "math")


def run(tmp_path, problems, name="run", **config):
    folder = tmp_path / f"{name}-problems"
    write_problems(folder / "train.jsonl", problems)
    workspace = Workspace.at(tmp_path / name)
    summary = curate(CurateConfig(**config), folder, workspace)
    dropped = [json.loads(line) for line in (workspace.out / "dropped.jsonl").read_text().splitlines()]
    return read_examples(workspace.out / "examples.jsonl"), dropped, summary


def generated(tmp_path, count=400):
    workspace = Workspace.at(tmp_path / "generated")
    build_problems(ProblemsConfig(source=GeneratedProblems(train=count, test=10)), workspace)
    return workspace.out


def test_a_generated_problem_gives_its_solution_in_three_short_formats(tmp_path):
    (cot, pot, tool), dropped, _ = run(tmp_path, [TOM])
    assert [example.format for example in (cot, pot, tool)] == ["cot", "pot", "tool"]
    assert cot.text == "5+7=12\n12-3=9\n\\boxed{9}"
    assert pot.text == "```python\na=5+7\nb=a-3\nprint(b)\n```"
    assert [(segment.text, segment.trained) for segment in tool.segments] == [
        ("```python\na=5+7\nb=a-3\nprint(b)\n```\n", True),
        ("```output\n9\n```\n", False),
        ("\\boxed{9}", True),
    ]
    assert dropped == []


def test_a_gsm8k_solution_keeps_its_sentences_without_marks(tmp_path):
    (cot, _, tool), _, _ = run(tmp_path, [NATALIA])
    assert cot.text == "She sold 48/2 = 24 in May.\nShe sold 48+24 = 72 in all.\n\\boxed{72}"
    assert tool.text.startswith("She sold 48/2 = 24 in May.\n```python\na=48/2\n")
    assert tool.segments[1].text == "```output\n72.0\n```\n", "a program's output is what Python prints"


def test_a_math_solution_stands_as_it_is_and_has_no_program(tmp_path):
    (cot,), dropped, summary = run(tmp_path, [MATH])
    assert cot.text == MATH.solution
    assert [(drop["format"], drop["reason"]) for drop in dropped] == [("pot", "no-calculation"), ("tool", "no-calculation")]
    assert summary["dropped_no-calculation"] == 2


def test_every_solution_left_out_has_a_reason(tmp_path):
    problems = [
        NATALIA,
        Problem("no-1", "q1", "3"),
        Problem("off-1", "q2", "5", "It is <<1+1=2>>2.", "en", "gsm8k"),
        Problem("odd-1", "q3", "five", "It is <<4+1=5>>5.", "en", "gsm8k"),
        Problem("box-1", "q4", "5", r"It is $5$.", "en", "math"),
    ]
    examples, dropped, summary = run(tmp_path, problems)
    reasons = {(drop["id"], drop["format"]): drop["reason"] for drop in dropped}
    assert reasons == {
        ("no-1", "cot"): "no-solution",
        ("no-1", "pot"): "no-solution",
        ("no-1", "tool"): "no-solution",
        ("off-1", "pot"): "program-differs-from-answer",
        ("off-1", "tool"): "program-differs-from-answer",
        ("odd-1", "pot"): "answer-not-a-number",
        ("odd-1", "tool"): "answer-not-a-number",
        ("box-1", "cot"): "answer-not-boxed",
        ("box-1", "pot"): "no-calculation",
        ("box-1", "tool"): "no-calculation",
    }
    assert summary["examples"] + summary["dropped"] == 3 * len(problems)
    assert summary["examples"] == len(examples) == sum(summary[f"examples_{format}"] for format in ("cot", "pot", "tool"))
    assert next(drop["detail"] for drop in dropped if drop["id"] == "off-1") == "the program prints 2, the answer is 5"


def test_programs_print_the_gold_answer_and_the_output_segment_is_what_they_print(tmp_path):
    workspace = Workspace.at(tmp_path / "w")
    curate(CurateConfig(), generated(tmp_path), workspace)
    for example in read_examples(workspace.out / "examples.jsonl"):
        if example.format == "cot":
            assert extract_answer(example.text) == example.answer
            continue
        program = example.segments[0].text.split("```python\n")[1].split("\n```")[0]
        assert run_program(program) == example.answer
        if example.format == "tool":
            assert example.segments[1].text == f"```output\n{example.answer}\n```\n"


def test_shares_choose_by_problem_and_not_by_order(tmp_path):
    problems = [Problem(f"g-{n}", f"Tom {n}?", TOM.answer, TOM.solution, "en", "generated") for n in range(600)]
    share = {"formats": {"cot": 1.0, "tool": 0.25}, "wrong_step_share": 0.35}
    one, _, summary = run(tmp_path, problems, "one", **share)
    other, _, _ = run(tmp_path, problems[::-1], "other", **share)
    assert sorted(map(repr, one)) == sorted(map(repr, other))
    assert summary["examples_cot"] == 600
    assert summary["examples_pot"] == 0
    assert 100 < summary["examples_tool"] < 200
    more, _, _ = run(tmp_path, problems, "more", formats={"cot": 1.0, "tool": 0.5}, wrong_step_share=0.35)
    assert {e.problem_id for e in one if e.format == "tool"} < {e.problem_id for e in more if e.format == "tool"}


def test_wrong_steps_take_the_other_operation_and_carry_it_through_in_the_asked_share(tmp_path):
    workspace = Workspace.at(tmp_path / "w")
    folder = generated(tmp_path, 1000)
    summary = curate(CurateConfig(wrong_step_share=0.35), folder, workspace)
    clean = Workspace.at(tmp_path / "clean")
    curate(CurateConfig(), folder, clean)
    wrong = 0
    for planted, right in zip(read_examples(workspace.out / "examples.jsonl"), read_examples(clean.out / "examples.jsonl"), strict=True):
        if planted == right:
            continue
        wrong += 1
        assert planted.format == "cot"
        assert planted.answer == right.answer
        boxed = extract_answer(planted.text)
        *steps, last, _ = planted.text.splitlines()
        *right_steps, right_last, _ = right.text.splitlines()
        assert steps == right_steps
        calculation, result = last.split("=")
        assert ("+" in calculation) != ("+" in right_last)
        assert run_program(f"result = {calculation}\nprint(result)") == result == boxed != right.answer
        assert int(boxed) >= 0
    assert wrong == summary["wrong_steps"]
    assert 300 < wrong < 400


def test_planted_errors_leave_real_solutions_alone(tmp_path):
    (cot,), _, summary = run(tmp_path, [NATALIA], formats={"cot": 1.0}, wrong_step_share=1.0)
    assert extract_answer(cot.text) == "72"
    assert summary["wrong_steps"] == 0


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    folder = generated(tmp_path)
    spaces = [Workspace.at(tmp_path / name) for name in "ab"]
    for workspace in spaces:
        curate(CurateConfig(wrong_step_share=0.5, formats={"cot": 0.5, "pot": 0.5}), folder, workspace)
    for name in ("examples.jsonl", "dropped.jsonl"):
        assert (spaces[0].out / name).read_bytes() == (spaces[1].out / name).read_bytes()


def test_a_share_above_one_and_a_run_without_solutions_are_errors(tmp_path):
    with pytest.raises(MathQuarryError, match=r"curate\.formats\.pot is 2\.0"):
        run(tmp_path, [TOM], formats={"pot": 2.0})
    with pytest.raises(MathQuarryError, match="no-calculation"):
        run(tmp_path, [MATH], formats={"pot": 1.0})


def test_gsm8k_and_math_curate_with_nearly_every_chain_of_thought(shared_data, tmp_path):
    for dataset in ("gsm8k", "math"):
        paths = {split: [str(shared_data / "problems" / f"{dataset}-{split}.jsonl.gz")] for split in ("train", "test")}
        problems = Workspace.at(tmp_path / dataset)
        build_problems(ProblemsConfig(source=ProblemFiles(dataset=dataset, **paths, train_limit=500, test_limit=1)), problems)
        workspace = Workspace.at(tmp_path / f"{dataset}-solutions")
        summary = curate(CurateConfig(), problems.out, workspace)
        assert summary["examples_cot"] >= 498
        assert summary["examples_pot"] == summary["examples_tool"]
        for example in read_examples(workspace.out / "examples.jsonl"):
            assert "<<" not in example.text
            assert "####" not in example.text


@pytest.mark.parametrize(
    ("calculation", "answer"),
    [
        ("1/(1+0.00000000000000000001-1)", "100000000000000000000"),
        ("5//(1+0.00000000000000000001-1)", "500000000000000000000"),
        ("7*(1+0.00000000000000000001-1)**(-1)", "700000000000000000000"),
        ("(-2)**(0.1*3*10/3)", "-2"),
    ],
)
def test_a_calculation_that_fails_in_floats_drops_the_programs_and_not_the_stage(tmp_path, calculation, answer):
    evil = Problem("e-1", f"What is {calculation}?", answer, f"It is <<{calculation}={answer}>> {answer}", "en", "gsm8k")
    examples, dropped, summary = run(tmp_path, [evil, NATALIA])
    assert [(example.problem_id, example.format) for example in examples if example.format != "cot"] == [("w-1", "pot"), ("w-1", "tool")]
    assert {(drop["id"], drop["format"], drop["reason"]) for drop in dropped} == {
        ("e-1", format, "fails-in-python") for format in ("pot", "tool")
    }
    assert summary["dropped_fails-in-python"] == 2
