"""Right and wrong answers side by side: which questions are shown, by which rule, and with which details."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import GradedAnswer, ProgramRun
from mathquarry.data.report.sections.verdicts import MOST_OUTPUT, SHOWN, verdict_block


def row(number: int, correct: bool, **changes: Any) -> dict[str, Any]:
    given = {
        "problem_id": f"p{number}",
        "question": f"What is 1+{number}?",
        "gold": str(number + 1),
        "format": "cot",
        "kind": "greedy",
        "text": f"so \\boxed{{{number + 1}}}",
        "calls": [],
        "extracted": str(number + 1),
        "correct": correct,
        "reason": "equal numbers" if correct else "no answer",
        "finished": True,
    }
    return {**given, **changes}


def evaluated(folder: Path, name: str, rows: list[dict[str, Any]]) -> ReportArtifact:
    (folder / name).mkdir()
    calls = pa.list_(pa.struct([("program", pa.string()), ("output", pa.string()), ("error", pa.string())]))
    table = pa.Table.from_pylist(rows)
    if "calls" in table.column_names:
        table = table.set_column(table.column_names.index("calls"), "calls", pa.array([row["calls"] for row in rows], calls))
    pq.write_table(table, folder / name / "answers.parquet")
    return ReportArtifact(name, "evaluate", name, folder / name, {}, {}, {}, 0.0, False)


def test_a_few_right_and_wrong_answers_are_drawn_alike_for_all_policies_and_formats(tmp_path: Path) -> None:
    cot, tool = (
        [row(number, number % 3 == 0) for number in range(60)],
        [row(number, number % 3 == 0, format="tool") for number in range(60)],
    )
    samples = [row(number, True, kind="sample") for number in range(60)]
    artifacts = [evaluated(tmp_path, "evaluate-sft", [*cot, *samples, *tool]), evaluated(tmp_path, "evaluate-rl-1", cot)]
    block = verdict_block(artifacts)
    assert block is not None
    assert [group.label for group in block.groups] == ["RL 1, chain of thought", "SFT, chain of thought", "SFT, tool-integrated"]
    for group in block.groups:
        assert (group.tally, group.reasons) == ("20 of 60 correct", "no answer 40")
        assert len(group.right) == len(group.wrong) == SHOWN
        assert [answer.question for answer in group.wrong] == [answer.question for answer in block.groups[0].wrong]
        assert group.right != group.right[:1] * SHOWN
    assert [answer.question for answer in block.groups[0].right] != [f"What is 1+{number}?" for number in range(0, 3 * SHOWN, 3)]


def test_an_answer_shows_gold_answer_reason_and_what_its_programs_printed(tmp_path: Path) -> None:
    division = "ZeroDivisionError: division by zero"
    calls = [
        {"program": "print('x' * 999)", "output": "x" * 999, "error": None},
        {"program": "1/0", "output": division, "error": division},
    ]
    rows = [
        row(1, False, format="pot", calls=calls, extracted=None, reason=f"the program failed: {division}", text="t"),
        row(2, False, format="pot", reason="the program failed: NameError"),
    ]
    block = verdict_block([evaluated(tmp_path, "evaluate-sft", rows)])
    assert block is not None
    (group,) = block.groups
    assert group.reasons == "the program failed 2"
    assert group.right == []
    assert (
        GradedAnswer(
            "What is 1+1?",
            "2",
            None,
            f"the program failed: {division}",
            "t",
            [ProgramRun("x" * MOST_OUTPUT + " […]", False), ProgramRun(division, True)],
        )
        in group.wrong
    )


def test_what_is_right_only_by_the_lenient_reading_is_reported(tmp_path: Path) -> None:
    rows = [row(1, True, lenient_correct=True), row(2, False, lenient_correct=True), row(3, False, lenient_correct=False)]
    block = verdict_block([evaluated(tmp_path, "evaluate-sft", rows)])
    assert block is not None
    assert block.groups[0].tally == "1 of 3 correct, 2 with the lenient reading"
    assert {answer.why for answer in block.groups[0].wrong} == {"no answer; correct with the lenient reading", "no answer"}


@pytest.mark.parametrize("missing", [["format", "calls", "extracted", "reason"], []])
def test_answers_of_earlier_versions_are_shown_without_what_they_lack(missing: list[str], tmp_path: Path) -> None:
    rows = [{name: value for name, value in row(1, False, finished=False).items() if name not in missing}]
    block = verdict_block([evaluated(tmp_path, "evaluate-base", rows)])
    assert block is not None
    (answer,) = block.groups[0].wrong
    assert (answer.answered, answer.why) == ((None, "truncated") if missing else ("2", "no answer"))


def test_without_stored_answers_there_is_no_browser(tmp_path: Path) -> None:
    (tmp_path / "evaluate-sft").mkdir()
    assert verdict_block([ReportArtifact("evaluate-sft", "evaluate", "k", tmp_path / "evaluate-sft", {}, {}, {}, 0.0, False)]) is None
