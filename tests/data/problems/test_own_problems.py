"""Users' own problem sets and solutions: read by the columns that the recipe names; every error is one line with file and row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mathquarry.data.errors import MathQuarryError
from mathquarry.data.files import read_json
from mathquarry.data.problems.build import build_problems
from mathquarry.data.problems.config import OwnProblems, ProblemFiles, ProblemsConfig
from mathquarry.data.problems.problem import Problem, read_problems, write_problems
from mathquarry.data.problems.registry import find, found_in
from mathquarry.data.solutions.config import CurateConfig, SolutionFiles
from mathquarry.data.solutions.curate import curate
from mathquarry.data.solutions.example import read_examples
from mathquarry.data.solutions.formats import chain_of_thought
from mathquarry.data.solutions.own import own_examples
from mathquarry.data.store.workspace import Workspace

Rows = list[dict[str, Any]]


def lines(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(path: str, **columns: Any) -> list[Problem]:
    source = ProblemFiles(train=[f"mine={path}"], test=["b"], sets={"mine": OwnProblems(**columns)})
    dataset, place = find(source.train[0], source, train=True)
    return dataset.training(place)


COLUMNS = {"question": "prompt", "answer": "target"}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_one_mapping_reads_every_kind_of_file(tmp_path: Path, form: str) -> None:
    rows = [{"prompt": "1+1?", "target": "2", "other": "x"}, {"prompt": "2+2?", "target": "4", "other": "y"}]
    path = tmp_path / f"mine-train.{form}"
    if form == "jsonl":
        lines(path, rows)
    elif form == "json":
        path.write_text(json.dumps(rows))
    elif form == "csv":
        path.write_text("prompt,target,other\n1+1?,2,x\n2+2?,4,y\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    problems = load(str(path), **COLUMNS)
    assert [(one.id, one.question, one.answer, one.solution, one.source) for one in problems] == [
        ("mine-train-1", "1+1?", "2", "", "mine"),
        ("mine-train-2", "2+2?", "4", "", "mine"),
    ]


@pytest.mark.parametrize(
    ("answer_from", "text", "answer", "solution"),
    [
        ("text", "3/4", "3/4", ""),
        ("boxed", r"It is \boxed{\frac{3}{4}}.", r"\frac{3}{4}", r"It is \boxed{\frac{3}{4}}."),
        ("hash", "Half of 96 is 48.\n#### 1,048", "1048", "Half of 96 is 48."),
    ],
)
def test_the_answer_stands_where_answer_from_says(tmp_path: Path, answer_from: str, text: str, answer: str, solution: str) -> None:
    (problem,) = load(lines(tmp_path / "a.jsonl", [{"prompt": "q?", "target": text}]), **COLUMNS, answer_from=answer_from)
    assert (problem.answer, problem.solution) == (answer, solution)


def test_a_column_can_lie_within_lists_and_objects_and_a_dot_can_be_part_of_a_name(tmp_path: Path) -> None:
    row = {"messages": [{"content": "q?"}], "reward": {"ground_truth": 12.0}, "a.b": "whole name"}
    path = lines(tmp_path / "a.jsonl", [row])
    (problem,) = load(path, question="messages.0.content", answer="reward.ground_truth", solution="a.b")
    assert (problem.question, problem.answer, problem.solution) == ("q?", "12", "whole name")


def test_languages_are_seen_by_their_characters_or_said(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"question": "小明有3个苹果？", "answer": 3}, {"question": "3?", "answer": 3}])
    assert [one.language for one in load(path)] == ["zh", "en"]
    assert [one.language for one in load(path, language="zh")] == ["zh", "zh"]


GOOD = {"prompt": "1+1?", "target": "2"}


@pytest.mark.parametrize(
    ("bad", "more", "message"),
    [
        ({"promt": "2+2?", "target": "4"}, {}, "there is no column `prompt`; the row has promt, target. Did you mean promt?"),
        ({"prompt": "2+2?"}, {}, "there is no column `target`; the row has prompt."),
        ({"prompt": "", "target": "4"}, {}, "column `prompt` is empty"),
        ({"prompt": "2+2?", "target": "  "}, {}, "column `target` is empty"),
        ({"prompt": "2+2?", "target": None}, {}, "column `target` is nothing, but it must be text"),
        ({"prompt": 5, "target": "4"}, {}, "column `prompt` is 5 (int), but it must be text. Write it as text."),
        ({"prompt": "2+2?", "target": True}, {}, "column `target` is True (bool)"),
        ({"prompt": "2+2?", "target": ["4"]}, {}, "is ['4'] (list), but it must be text. Use a value inside it, for example `target.0`."),
        ({"prompt": "2+2?", "target": {"value": "4"}}, {}, "for example `target.value`."),
        ({"prompt": "2+2?", "target": math.nan}, {}, "column `target` is nan, which is not an answer"),
        ({"prompt": " 1+1? ", "target": "2"}, {}, "line 2 has the same question as"),
        ({"prompt": "1+1?", "target": "3"}, {}, "line 1 with another answer ('3', not '2')"),
        (
            {"prompt": "2+2?", "target": "so 4\n#### 4"},
            {},
            "has a solution, not an answer: 'so 4 #### 4'. Set answer_from of set mine to \"hash\".",
        ),
        ({"prompt": "2+2?", "target": r"so \boxed{4}"}, {}, 'answer_from of set mine to "boxed"'),
        ({"prompt": "2+2?", "target": "\ud800"}, {}, "cannot be used: it contains half a surrogate pair"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_row(tmp_path: Path, bad: dict, more: dict, message: str) -> None:
    path = lines(tmp_path / "mine.jsonl", [GOOD, bad])
    with pytest.raises(MathQuarryError) as error:
        load(path, **COLUMNS, **more)
    assert f"{path}, line 2" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("answer_from", "other"), [("boxed", "hash"), ("hash", "boxed")])
def test_a_wrong_answer_from_is_reported_with_the_one_that_fits(tmp_path: Path, answer_from: str, other: str) -> None:
    text = {"hash": "so 4\n#### 4", "boxed": r"so \boxed{4}"}[other]
    path = lines(tmp_path / "mine.jsonl", [{"prompt": "2+2?", "target": text}])
    with pytest.raises(
        MathQuarryError, match=rf"line 1: no answer in .* in column `target`.*answer_from of set mine to \"{other}\" for all rows"
    ):
        load(path, **COLUMNS, answer_from=answer_from)


def test_rows_of_a_table_are_named_by_number(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a?", None], "target": ["1", "2"]}), tmp_path / "a.parquet")
    with pytest.raises(MathQuarryError, match=r"a\.parquet, record 2: column `prompt` is nothing"):
        load(str(tmp_path / "a.parquet"), **COLUMNS)


def test_repeated_questions_can_be_dropped_and_are_counted(tmp_path: Path) -> None:
    train = lines(
        tmp_path / "mine-train.jsonl",
        [{"question": "1+1?", "answer": 2}, {"question": "1+1?", "answer": 2}, {"question": "3?", "answer": 3}],
    )
    test = lines(tmp_path / "mine-test.jsonl", [{"question": "5+5?", "answer": 10}])
    source = ProblemFiles(dataset="mine", train=[train], test=[test], sets={"mine": OwnProblems(repeated="drop")})
    workspace = Workspace.at(tmp_path / "room")
    summary = build_problems(ProblemsConfig(source=source), workspace)
    assert [one.answer for one in read_problems(workspace.out / "train.jsonl")] == ["2", "3"]
    assert (summary["train"], summary["dropped_repeated"]) == (2, 1)
    assert json.loads((workspace.out / "dropped.jsonl").read_text()) == {"id": "mine-train-2", "split": "train", "reason": "repeated"}


def test_a_file_named_as_a_test_split_is_not_trained_on_and_own_sets_have_no_hub(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine-test.jsonl", [{"question": "1+1?", "answer": 2}])
    with pytest.raises(MathQuarryError, match="named as a test split"):
        load(path)
    with pytest.raises(MathQuarryError, match="mine has no training split on the hub"):
        load("hub")


def test_names_of_sets_are_checked_in_the_recipe() -> None:
    files: dict[str, Any] = {"train": ["a"], "test": ["b"]}
    with pytest.raises(ValidationError, match="there is no problem set mine; known sets are "):
        ProblemFiles(dataset="mine", **files)
    with pytest.raises(ValidationError, match=r"sets.gsm8k has the name of a built-in set"):
        ProblemFiles(sets={"gsm8k": OwnProblems()}, **files)
    with pytest.raises(ValidationError):
        ProblemFiles(sets={"../up": OwnProblems()}, **files)
    with pytest.raises(MathQuarryError, match="there is no problem set yours"):
        found_in(ProblemFiles(train=["yours=a"], test=["b"]))


def test_an_own_solution_that_boxes_its_answer_stands_as_it_is() -> None:
    boxed = Problem("a", "q?", "4", r"Two and two is $\boxed{4}$, of course.", source="mine")
    assert [segment.text for segment in chain_of_thought(boxed) or []] == [boxed.solution]
    bare = Problem("a", "q?", "4", "Two and two is four.", source="mine")
    assert [segment.text for segment in chain_of_thought(bare) or []] == ["Two and two is four.\n\\boxed{4}"]


def problems_folder(folder: Path) -> Path:
    folder.mkdir()
    write_problems(folder / "train.jsonl", [Problem("t-1", "1+1?", "2", "It is 2.", source="mine")])
    write_problems(folder / "test.jsonl", [Problem("h-1", "Held out?", "5")])
    write_problems(folder / "benchmarks.jsonl", [])
    return folder


def test_own_solutions_are_trained_on_beside_those_of_the_problems_and_held_out_questions_are_not(tmp_path: Path) -> None:
    rows = [{"q": "2+2?", "w": r"So \boxed{4}."}, {"q": "held  OUT?", "w": r"\boxed{5}"}]
    config = CurateConfig(formats={"cot": 1.0}, files=[SolutionFiles(path=lines(tmp_path / "s.jsonl", rows), question="q", solution="w")])
    workspace = Workspace.at(tmp_path / "room")
    summary = curate(config, problems_folder(tmp_path / "problems"), workspace)
    examples = read_examples(workspace.out / "examples.jsonl")
    assert [(one.question, one.answer, one.text) for one in examples] == [
        ("1+1?", "2", "It is 2.\n\\boxed{2}"),
        ("2+2?", "4", r"So \boxed{4}."),
    ]
    assert summary["dropped_held-out"] == 1
    assert read_json(workspace.out / "dropped.jsonl")["id"] == "s-2"


TOOL = "I add.\n```python\nprint(2+2)\n```\n```output\n4\n```\nThe answer is 4."


@pytest.mark.parametrize(
    ("format", "solution", "more", "segments"),
    [
        ("cot", "Two and two.\n#### 4", {"answer_from": "hash"}, [("Two and two.\n\\boxed{4}", True)]),
        ("cot", "Two and two.", {"answer": "a"}, [("Two and two.\n\\boxed{4}", True)]),
        ("pot", "print(2+2)", {}, [("```python\nprint(2+2)\n```", True)]),
        ("pot", "Here:\n```python\nprint(2+2)\n```", {}, [("```python\nprint(2+2)\n```", True)]),
        (
            "tool",
            TOOL,
            {"answer": "a"},
            [("I add.\n```python\nprint(2+2)\n```\n", True), ("```output\n4\n```\n", False), ("The answer is 4.\n\\boxed{4}", True)],
        ),
    ],
)
def test_a_solution_becomes_what_is_trained_on(tmp_path: Path, format: str, solution: str, more: dict, segments: list) -> None:
    path = lines(tmp_path / "s.jsonl", [{"question": "2+2?", "solution": solution, "a": 4}])
    (example,) = own_examples(SolutionFiles(path=path, format=format, **more))
    assert [(segment.text, segment.trained) for segment in example.segments] == segments


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        (
            {"question": "q?", "solution": "no box"},
            {},
            "'no box'. Correct it, or set answer_from of curate.files to \"text\" for all rows.",
        ),
        ({"question": "q?", "solution": r"\boxed{1}"}, {}, "gives the question and the solution of"),
        ({"question": "q?", "solution": "```python\nprint(1)"}, {"format": "pot"}, "has a fence but no complete ```python block"),
        ({"question": "q?", "solution": r"just text \boxed{1}"}, {"format": "tool"}, "has no ```python block, which format `tool` needs"),
        ({"question": "q?"}, {}, "there is no column `solution`"),
        ({"question": "q?", "solution": ["a"]}, {}, "for example `solution.0`"),
    ],
)
def test_a_bad_solution_is_one_line_with_file_and_row(tmp_path: Path, row: dict, more: dict, message: str) -> None:
    good = {"cot": r"\boxed{1}", "pot": "print(2)", "tool": TOOL + r"\boxed{4}"}[more.get("format", "cot")]
    path = lines(tmp_path / "s.jsonl", [{"question": "q?", "solution": good}, row])
    with pytest.raises(MathQuarryError) as error:
        own_examples(SolutionFiles(path=path, **more))
    assert f"{path}, line 2" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_solutions_without_an_answer_anywhere_are_refused_in_the_recipe() -> None:
    with pytest.raises(ValidationError, match="name the column of the answers with `answer`"):
        SolutionFiles(path="a", answer_from="text")
