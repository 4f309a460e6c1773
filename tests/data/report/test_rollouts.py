"""The browser of rollouts: how many it draws, how it shows a completion, and how much of the file it reads."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mathquarry.data.report.page.artifact import ReportArtifact
from mathquarry.data.report.page.blocks import Groups, Section
from mathquarry.data.report.sections.rollouts import (
    BEST_AND_WORST,
    ITERATIONS,
    MOST_CHARACTERS,
    QUESTIONS,
    evenly,
    rollout_section,
    split_steps,
)
from tests.benchmarks.report import SIZES, measure_build, write_run
from tests.data.report.report_run import SCHEMA, make_group, write_rl


def iteration(folder: Path, number: int, **sizes: int) -> ReportArtifact:
    name = f"grpo-{number}"
    (folder / name).mkdir()
    write_rl(folder / name, number, "", **sizes)
    return ReportArtifact(name, "grpo", f"{number:020x}", folder / name, {}, {}, {}, 1.0, False)


def drawn(artifacts: list[ReportArtifact]) -> tuple[Section, list[Groups]]:
    section = rollout_section(artifacts)
    assert section is not None
    return section, [block for block in section.blocks if isinstance(block, Groups)]


def test_first_middle_and_last_step_are_shown_and_the_page_says_of_how_many(tmp_path: Path) -> None:
    section, blocks = drawn([iteration(tmp_path, 1, steps=9), iteration(tmp_path, 2, steps=1)])
    titles = ["Iteration 1, first step (1)", "Iteration 1, middle step (5)", "Iteration 1, last step (9)", "Iteration 2, only step (1)"]
    assert [block.title for block in blocks] == titles
    assert {block.note for block in blocks} == {"4 of 6 questions, 24 of 96 completions of this step."}
    assert section.lead.startswith("96 of 960 completions")
    assert "MD5 with seed 0" in section.lead


def test_of_many_iterations_the_first_the_last_and_some_between_are_shown(tmp_path: Path) -> None:
    section, blocks = drawn([iteration(tmp_path, number, steps=1, questions=1, completions=2) for number in range(1, 13)])
    assert [block.title.partition(",")[0] for block in blocks] == [f"Iteration {number}" for number in (1, 3, 5, 8, 10, 12)]
    assert f"{ITERATIONS} of 12 iterations, evenly spread" in section.lead
    assert evenly(3, 6) == [0, 1, 2]


def test_mixed_questions_come_first_with_their_best_and_worst_completions(tmp_path: Path) -> None:
    artifact = iteration(tmp_path, 1, steps=1, questions=1)
    shares = (0.0, 0.5, 1.0, 0.5, 1.0, 0.0)
    groups = [make_group(share, 16, 2, "", group=group, step=1, iteration=1) for group, share in enumerate(shares)]
    pq.write_table(pa.Table.from_pylist([row for rows in groups for row in rows], SCHEMA), artifact.path / "rollouts.parquet")
    (block,) = drawn([artifact])[1]
    assert len(block.groups) == QUESTIONS
    mixed = [group.tally not in ("0 of 16 correct", "16 of 16 correct") for group in block.groups]
    assert mixed == [True, True, False, False]
    first = next(rows for rows in groups if rows[0]["question"] == block.groups[0].question)
    rewards = sorted((row["reward"] for row in first), reverse=True)
    shown = [sample.reward for sample in block.groups[0].samples]
    assert shown == pytest.approx(rewards[:BEST_AND_WORST] + rewards[-BEST_AND_WORST:])


def test_each_step_has_its_reward_and_its_advantage() -> None:
    steps = split_steps("a\nb\n\n\\boxed{1}", [0.1, 0.2, 0.3], [-1.0, 0.0, 1.0])
    assert [(step.text, step.reward, step.advantage) for step in steps] == [("a", 0.1, -1.0), ("b", 0.2, 0.0), ("\\boxed{1}", 0.3, 1.0)]
    assert [(step.reward, step.advantage) for step in split_steps("a\nb", [0.7], [0.5])] == [(None, None), (0.7, 0.5)]


def test_programs_and_what_they_printed_are_told_from_the_text() -> None:
    text = "We compute.\n```python\nx = 1\n\nprint(x)\n```\n```output\n1\n```\nSo \\boxed{1}.\n```\nnot a program"
    roles = [(step.role, step.text) for step in split_steps(text)]
    assert roles[:2] == [("text", "We compute."), ("program", "```python")]
    assert [role for role, _ in roles[1:5]] == ["program"] * 4
    assert [role for role, _ in roles[5:8]] == ["output"] * 3
    assert roles[8:] == [("text", "So \\boxed{1}."), ("text", "```"), ("text", "not a program")]
    assert [step.role for step in split_steps("```python\nx = 1")] == ["program", "program"]


def test_a_long_output_is_cut_and_its_steps_keep_their_own_rewards() -> None:
    lines = [f"{number}: {'x' * 95}" for number in range(100)]
    steps = split_steps("\n".join(lines), [number / 100 for number in range(100)])
    *shown, cut = steps
    assert cut.text.endswith("[…]")
    assert sum(len(step.text) for step in steps) <= MOST_CHARACTERS + len(" […]")
    assert [(step.text, step.reward) for step in shown] == [(line, number / 100) for number, line in enumerate(lines[: len(shown)])]
    (only,) = split_steps("y" * (MOST_CHARACTERS + 1), [0.5])
    assert (only.text, only.reward) == ("y" * MOST_CHARACTERS + " […]", 0.5)


def test_only_the_row_groups_of_the_steps_shown_are_read(tmp_path: Path) -> None:
    artifact = iteration(tmp_path, 1, steps=9)
    path = artifact.path / "rollouts.parquet"
    before = drawn([artifact])
    metadata, content = pq.read_metadata(path), bytearray(path.read_bytes())
    for group in (1, 2, 3, 5, 6, 7):
        for column in (metadata.row_group(group).column(index) for index in range(metadata.num_columns)):
            start = column.dictionary_page_offset or column.data_page_offset
            content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(OSError, match="(?i)page|thrift"):
        pq.read_table(path)
    assert drawn([artifact]) == before


@pytest.mark.slow
def test_a_hundred_thousand_rollouts_make_a_page_no_larger_and_need_no_more_memory_than_a_few(tmp_path: Path) -> None:
    found, stored = [], []
    for steps in (3, SIZES["steps"]):
        folder = tmp_path / str(steps)
        write_run(folder, **SIZES | {"steps": steps})
        found.append(measure_build(folder))
        stored.append(sum(path.stat().st_size for path in folder.glob("store/*/rollouts.parquet")))
    few, many = found
    assert 2 * SIZES["steps"] * SIZES["questions"] * SIZES["completions"] > 100_000
    assert stored[1] > 15 * stored[0]
    assert many["bytes"] < 15_000_000
    assert many["bytes"] < few["bytes"] + 200_000
    assert many["peak_mib"] < few["peak_mib"] + stored[1] / 2**20 / 3
